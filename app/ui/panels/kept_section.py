"""What is kept on the disk: converted weights and prompts, their sizes, and removing them."""

from PySide6.QtCore import QSize, Slot
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListView,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.core.units import format_bytes
from app.ui import theme
from app.ui.models.kept_model import KEPT_ROLE, KeptModel
from app.ui.panels.kept_prompts import KeptPrompts

LIST_HEIGHT_PX = 84
"""Three files: two components of a model, and the next one."""


class KeptSection(QWidget):
    """A list of converted weights, and one line for prompts."""

    def __init__(self, kept: KeptModel, parent: QWidget | None = None) -> None:
        """Show what is kept, and look at the disk for it."""
        super().__init__(parent)
        self.setObjectName("kept_section")
        self._kept = kept
        self._list = QListView(self)
        self._list.setObjectName("kept_list")
        self._list.setAccessibleName(self.tr("Converted weights"))
        self._list.setToolTip(self.tr("Weights that were quantized once, the last used first"))
        self._list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self._list.setFixedHeight(LIST_HEIGHT_PX)
        self._list.setModel(kept)
        self._converted = self._label("kept_converted", "muted")
        self._prompts = KeptPrompts(kept, self)
        self._prompts.clear_button.clicked.connect(self._hide_message)
        self._message = self._label("kept_message", "problem")
        self._message.hide()
        self._remove = self._button(
            "kept_remove",
            self.tr("R&emove files…"),
            self.tr(
                "Remove the chosen converted weights; the next run in their precision makes "
                "them again"
            ),
        )
        self._remove.clicked.connect(self._on_remove_clicked)
        self._lay_out()
        self._list.selectionModel().selectionChanged.connect(self._show_buttons)
        kept.refreshed.connect(self._show)
        kept.refused.connect(self._on_refused)
        self._show()
        kept.refresh()

    def _lay_out(self) -> None:
        heading = self._label("kept_heading", "heading")
        heading.setText(self.tr("Kept on disk"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.SPACING_PX)
        layout.addWidget(heading)
        layout.addWidget(self._list)
        row = QHBoxLayout()
        row.addWidget(self._converted, 1)
        row.addWidget(self._remove)
        layout.addLayout(row)
        layout.addWidget(self._prompts)
        layout.addWidget(self._message)

    def _label(self, name: str, role: str) -> QLabel:
        label = QLabel(self)
        label.setObjectName(name)
        label.setWordWrap(True)
        theme.set_role(label, role)
        return label

    def _button(self, name: str, text: str, tip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setObjectName(name)
        button.setIcon(theme.icon("trash"))
        button.setIconSize(QSize(16, 16))
        button.setToolTip(tip)
        button.setAutoDefault(False)
        return button

    @Slot()
    def _show(self) -> None:
        kept = self._kept
        is_empty = kept.rowCount() == 0
        self._list.setVisible(not is_empty)
        self._converted.setText(
            self.tr("No converted weights: the first run in fp8, int8 or 4 bits makes them.")
            if is_empty
            else self.tr("Converted weights: {size} in all").format(
                size=format_bytes(kept.converted_bytes)
            )
        )
        self._show_buttons()

    @Slot()
    def _show_buttons(self) -> None:
        self._remove.setEnabled(self._list.selectionModel().hasSelection())

    @Slot()
    def _on_remove_clicked(self) -> None:
        self._message.hide()
        chosen = [index.data(KEPT_ROLE) for index in self._list.selectedIndexes()]
        refusal = self._kept.refusal()
        if refusal:
            self._on_refused(refusal)
            return
        question = self.tr(
            "Remove from the disk?\n\n{names}\n\nThe next run in this precision converts the "
            "weights again, which takes a while."
        ).format(names="\n".join(map(self._kept.name, chosen)))
        if KeptPrompts.ask(self, self.tr("Remove converted weights"), question):
            self._kept.remove(chosen)

    @Slot()
    def _hide_message(self) -> None:
        self._message.hide()

    @Slot(str)
    def _on_refused(self, sentence: str) -> None:
        self._message.setText(sentence)
        self._message.show()
