"""A window with a text one can read and copy: an error's details, a bug report."""

from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from app.core.errors import ErrorInfo
from app.ui import theme
from app.ui.widgets.wrapping_label import WrappingLabel


class TextDialog(QDialog):
    """A heading, a text in a fixed font, Copy and Close."""

    def __init__(
        self, *, title: str, heading: str, text: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("text_dialog")
        self.setWindowTitle(title)
        self.resize(640, 420)
        label = WrappingLabel(self)
        label.setObjectName("text_dialog_heading")
        label.setText(heading)
        theme.set_role(label, "title")
        self._text = QPlainTextEdit(text, self)
        self._text.setObjectName("text_dialog_text")
        self._text.setReadOnly(True)
        self._text.setAccessibleName(self.tr("Details"))
        self._text.setToolTip(self.tr("Can be selected and copied"))
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("text_dialog_buttons")
        copy = buttons.addButton(self.tr("&Copy"), QDialogButtonBox.ButtonRole.ActionRole)
        copy.setObjectName("text_dialog_copy")
        copy.setToolTip(self.tr("Put all of it on the clipboard"))
        copy.clicked.connect(self.copy)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(label)
        layout.addWidget(self._text, 1)
        layout.addWidget(buttons)

    def copy(self) -> None:
        """Put the text on the clipboard."""
        QGuiApplication.clipboard().setText(self._text.toPlainText())


def error_text(error: ErrorInfo) -> str:
    """An error with everything that is known about it, as plain text."""
    parts = (f"{error.message} [{error.code}]", error.details, error.traceback_text)
    return "\n\n".join(part for part in parts if part)
