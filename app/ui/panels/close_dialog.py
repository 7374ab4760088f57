"""Asked before the window closes in the middle of something."""

from PySide6.QtWidgets import QMessageBox, QWidget


class CloseDialog(QMessageBox):
    """One question; Cancel is the default."""

    def __init__(self, reason: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("close_dialog")
        self.setIcon(QMessageBox.Icon.Question)
        self.setWindowTitle(self.tr("Close Headroom?"))
        self.setText(reason)
        self.close_button = self.addButton(
            self.tr("&Close Headroom"), QMessageBox.ButtonRole.AcceptRole
        )
        stay = self.addButton(self.tr("&Stay"), QMessageBox.ButtonRole.RejectRole)
        self.setDefaultButton(stay)
        self.setEscapeButton(stay)

    @classmethod
    def ask(cls, reason: str, parent: QWidget) -> bool:
        """Whether the user wants to close all the same."""
        dialog = cls(reason, parent)
        dialog.exec()
        answer = dialog.clickedButton() is dialog.close_button
        dialog.deleteLater()
        return answer
