"""All keys the window knows, read from its actions."""

from collections.abc import Iterable

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)


class ShortcutsDialog(QDialog):
    """A table of what can be done and its key."""

    def __init__(self, actions: Iterable[QAction], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("shortcuts_dialog")
        self.setWindowTitle(self.tr("Keyboard shortcuts"))
        self.resize(460, 520)
        self._table = QTreeWidget(self)
        self._table.setObjectName("shortcuts_table")
        self._table.setAccessibleName(self.tr("Keyboard shortcuts"))
        self._table.setToolTip(self.tr("What can be done, and its key"))
        self._table.setHeaderLabels([self.tr("Action"), self.tr("Key")])
        self._table.setRootIsDecorated(False)
        self._table.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self._table.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        for action in actions:
            # The first is the one everybody has; others are keys of old or special keyboards.
            keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            if keys:
                name = action.text().replace("&", "").rstrip("…")
                self._table.addTopLevelItem(QTreeWidgetItem([name, keys]))
        self._table.header().setStretchLastSection(False)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("shortcuts_buttons")
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 12, 12, 12)
        layout.addWidget(self._table)
        layout.addWidget(buttons)
