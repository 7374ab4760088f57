"""The Edit menu's commands, done by whatever has the focus."""

from typing import Literal

from PySide6.QtWidgets import QApplication, QLineEdit, QPlainTextEdit, QTextEdit

EditCommand = Literal["undo", "redo", "cut", "copy", "paste", "selectAll"]


def edit_focused(command: EditCommand) -> bool:
    """Do a command in the text editor that has the focus.

    Returns:
        Whether there is one.
    """
    target = QApplication.focusWidget()
    if not isinstance(target, QLineEdit | QPlainTextEdit | QTextEdit):
        return False
    getattr(target, command)()
    return True
