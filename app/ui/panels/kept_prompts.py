"""How large the kept prompts are, and clearing them: one row, wherever it stands."""

from PySide6.QtCore import QSize, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMessageBox, QPushButton, QWidget

from app.core.units import format_bytes
from app.ui import theme
from app.ui.models.kept_model import KeptModel


class KeptPrompts(QWidget):
    """A label with the size and a button; what goes wrong is told by the model."""

    def __init__(self, kept: KeptModel, parent: QWidget | None = None) -> None:
        """Show what the model knows; whoever owns the row has it refreshed."""
        super().__init__(parent)
        self.setObjectName("kept_prompts_row")
        self._kept = kept
        self._size = QLabel(self)
        self._size.setObjectName("kept_prompts")
        self._size.setWordWrap(True)
        theme.set_role(self._size, "muted")
        self.clear_button = QPushButton(self.tr("C&lear prompts…"), self)
        self.clear_button.setObjectName("kept_clear")
        self.clear_button.setIcon(theme.icon("trash"))
        self.clear_button.setIconSize(QSize(16, 16))
        self.clear_button.setToolTip(
            self.tr("Remove all kept prompts; each is encoded again when it is wanted")
        )
        self.clear_button.setAutoDefault(False)
        self.clear_button.clicked.connect(self._on_clear_clicked)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._size, 1)
        row.addWidget(self.clear_button)
        kept.refreshed.connect(self._show)
        self._show()

    # What is asked; replaced in tests.

    @classmethod
    def ask(cls, parent: QWidget, title: str, question: str) -> bool:
        """Whether something is to be removed."""
        answer = QMessageBox.question(parent, title, question)
        return answer == QMessageBox.StandardButton.Yes

    @Slot()
    def _show(self) -> None:
        size_bytes = self._kept.prompts_bytes
        self._size.setText(self.tr("Kept prompts: {size}").format(size=format_bytes(size_bytes)))
        self.clear_button.setEnabled(size_bytes > 0)

    @Slot()
    def _on_clear_clicked(self) -> None:
        question = self.tr(
            "Remove all kept prompts ({size})? Each is encoded again when it is wanted."
        ).format(size=format_bytes(self._kept.prompts_bytes))
        if self.ask(self, self.tr("Clear kept prompts"), question):
            self._kept.clear_prompts()
