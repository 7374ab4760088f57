"""The Edit menu's commands, done by whatever has the focus."""

from typing import Literal

from PySide6.QtWidgets import QAbstractSpinBox, QApplication, QLineEdit, QPlainTextEdit, QTextEdit

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


def take_over_typed() -> None:
    """Take over a number that is being typed, as leaving its editor would.

    A key does not move the focus, so a command would else be done with the former number.
    """
    target = QApplication.focusWidget()
    if isinstance(target, QAbstractSpinBox):
        target.interpretText()
    elif isinstance(target, QLineEdit):
        target.editingFinished.emit()
