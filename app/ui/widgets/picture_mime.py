"""Pictures that are dropped or pasted as reference images, and rows that are pulled elsewhere."""

from pathlib import Path

from PySide6.QtCore import QByteArray, QMimeData
from PySide6.QtGui import QImage

from app.core.request import REFERENCE_SUFFIXES

ROW_TYPE = "application/x-headroom-reference-row"


def picture_files(data: QMimeData) -> list[Path]:
    """Files that can be reference images by their names."""
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return [path for path in paths if path.suffix.lower() in REFERENCE_SUFFIXES]


def picture_without_file(data: QMimeData) -> QImage | None:
    """A picture as pixels, as screenshots and browsers give it; None where there are files."""
    if data.hasUrls() or not data.hasImage():
        return None
    image = data.imageData()
    return image if isinstance(image, QImage) and not image.isNull() else None


def holds_pictures(data: QMimeData) -> bool:
    """Whether there is anything that could be a reference image; nothing is decoded for that."""
    return bool(picture_files(data)) or (data.hasImage() and not data.hasUrls())


def row_data(row: int) -> QMimeData:
    """A row that is pulled to another place."""
    data = QMimeData()
    data.setData(ROW_TYPE, QByteArray(str(row).encode()))
    return data


def row_of(data: QMimeData) -> int | None:
    """The row that is pulled, or None for anything else."""
    text = bytes(data.data(ROW_TYPE).data())
    return int(text) if text.isdigit() else None
