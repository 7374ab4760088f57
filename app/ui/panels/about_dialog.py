"""What this is, which version, and whose work it stands on."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app import __version__
from app.ui import theme
from app.ui.models.diagnostics import components


class AboutDialog(QDialog):
    """Name, version, licence, and the libraries with theirs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("about_dialog")
        self.setWindowTitle(self.tr("About Headroom"))
        self.resize(560, 520)
        picture = QLabel(self)
        picture.setObjectName("about_icon")
        picture.setAccessibleName(self.tr("Headroom's icon"))
        picture.setPixmap(theme.icon("headroom").pixmap(QSize(56, 56), self.devicePixelRatio()))
        name = QLabel(self.tr("Headroom {version}").format(version=__version__), self)
        name.setObjectName("about_name")
        theme.set_role(name, "hero")
        text = QLabel(
            self.tr(
                "A desktop studio for FLUX.2 that knows what fits on your GPU. Licensed under "
                "Apache-2.0; sends nothing anywhere."
            ),
            self,
        )
        text.setObjectName("about_text")
        text.setWordWrap(True)
        words = QVBoxLayout()
        words.addWidget(name)
        words.addWidget(text)
        top = QHBoxLayout()
        top.setSpacing(16)
        top.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(words, 1)
        heading = QLabel(self.tr("Built on"), self)
        theme.set_role(heading, "heading")
        table = QTreeWidget(self)
        table.setObjectName("about_components")
        table.setAccessibleName(self.tr("Libraries, their versions and licences"))
        table.setToolTip(self.tr("Libraries, their versions and licences"))
        table.setHeaderLabels([self.tr("Library"), self.tr("Version"), self.tr("Licence")])
        table.setRootIsDecorated(False)
        for one in components():
            item = QTreeWidgetItem([one.name, one.version, one.licence])
            item.setToolTip(2, one.licence)
            table.addTopLevelItem(item)
        for column in (0, 1):
            table.header().setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        note = QLabel(
            self.tr(
                "Qt and PySide6 are used under the LGPL, as separate libraries that you may "
                "replace. Weights of FLUX.2 models have licences of their own, shown under Models."
            ),
            self,
        )
        note.setObjectName("about_note")
        note.setWordWrap(True)
        theme.set_role(note, "muted")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("about_buttons")
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addLayout(top)
        layout.addWidget(heading)
        layout.addWidget(table, 1)
        layout.addWidget(note)
        layout.addWidget(buttons)
