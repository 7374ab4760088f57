"""Asks where to save a picture."""

from pathlib import Path

from PySide6.QtCore import QCoreApplication
from PySide6.QtWidgets import QFileDialog, QWidget

SUFFIX = ".png"


class SavePictureDialog:
    """The system's own dialog; replaced in tests at `ask`."""

    @classmethod
    def ask(cls, parent: QWidget, suggestion: Path) -> Path | None:
        """The file to write, with the suffix .png; None when the user thought better of it."""
        while (chosen := cls.choose(parent, suggestion)) is not None:
            target = with_png_suffix(chosen)
            # The dialog has asked about the file that was chosen. One that only the suffix makes
            # of it must not be replaced unasked, so the dialog comes again with its whole name.
            if target == chosen or not target.exists():
                return target
            suggestion = target
        return None

    @classmethod
    def choose(cls, parent: QWidget, suggestion: Path) -> Path | None:
        """What the user chooses in the dialog, which asks before a file is replaced."""
        dialog = save_dialog(parent, suggestion)
        try:
            accepted = dialog.exec() == QFileDialog.DialogCode.Accepted
            chosen = dialog.selectedFiles()
        finally:
            dialog.deleteLater()
        return Path(chosen[0]) if accepted and chosen else None


def save_dialog(parent: QWidget, suggestion: Path) -> QFileDialog:
    """The dialog, not yet shown."""
    dialog = QFileDialog(
        parent,
        QCoreApplication.translate("SavePictureDialog", "Save picture as"),
        str(suggestion.parent),
        QCoreApplication.translate("SavePictureDialog", "PNG pictures (*.png)"),
    )
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setFileMode(QFileDialog.FileMode.AnyFile)
    # Known to the dialog, so that it asks about the name with the suffix.
    dialog.setDefaultSuffix(SUFFIX.removeprefix("."))
    dialog.selectFile(str(suggestion))
    return dialog


def with_png_suffix(path: Path) -> Path:
    """The path as a PNG's: a name without the suffix gets it."""
    return path if path.suffix.lower() == SUFFIX else path.with_name(f"{path.name}{SUFFIX}")
