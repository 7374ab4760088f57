"""Shown when something broke that nobody foresaw: says so, and gives a report to copy."""

from typing import ClassVar

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from app.core.errors import ErrorInfo
from app.ui.panels.text_dialog import TextDialog, error_text


class ErrorDialog(TextDialog):
    """One at a time: an error that repeats does not bury the window in dialogs."""

    _open: ClassVar[bool] = False

    @classmethod
    def report(cls, error: ErrorInfo, diagnostics: str, parent: QWidget) -> None:
        """Show an error that nobody caught; it does not block the work."""
        if cls._open:
            return
        cls._open = True
        dialog = cls(
            title=parent.tr("Something went wrong"),
            heading=parent.tr(
                "{message}\nYou can go on working. To report it, copy the text below."
            ).format(message=error.message),
            text=f"{error_text(error)}\n\n{diagnostics}",
            parent=parent,
        )
        dialog.setObjectName("error_dialog")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.finished.connect(cls._on_finished)
        dialog.show()

    @classmethod
    def _on_finished(cls, _result: int) -> None:
        cls._open = False


def say_it_does_not_answer() -> None:
    """Told by a second start when the first one hangs; two at once would need the memory twice."""
    QMessageBox.critical(
        None,
        "Headroom",
        QCoreApplication.translate(
            "ErrorDialog",
            "Headroom is running already, but does not answer. End it, then start it again.",
        ),
    )
