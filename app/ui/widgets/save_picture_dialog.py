"""Asks where to save a picture."""

from pathlib import Path

from PySide6.QtCore import QCoreApplication
from PySide6.QtWidgets import QFileDialog, QWidget


class SavePictureDialog:
    """The system's own dialog; replaced in tests at `ask`."""

    @classmethod
    def ask(cls, parent: QWidget, suggestion: Path) -> Path | None:
        """The file to write, with the suffix .png; None when the user thought better of it."""
        chosen, _ = QFileDialog.getSaveFileName(
            parent,
            QCoreApplication.translate("SavePictureDialog", "Save picture as"),
            str(suggestion),
            QCoreApplication.translate("SavePictureDialog", "PNG pictures (*.png)"),
        )
        return with_png_suffix(Path(chosen)) if chosen else None


def with_png_suffix(path: Path) -> Path:
    """The path as a PNG's: a name without the suffix gets it."""
    return path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")
