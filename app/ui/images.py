"""Where pixels cross into Qt, and the one place: bytes or files in, `QImage` out.

Big files are read by `ImageLoader` away from the GUI thread. It only uses `QImageReader.read`,
which lets go of Python's lock while it decodes and scales; `QImage.fromData` and `QImage.scaled`
keep it (measured with PySide6 6.12: 50 ms without an event for a 2048 px picture), so they are
used here for small images only.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject, QSize, Qt, QThreadPool, Signal
from PySide6.QtGui import QImage, QImageReader

from app.core.events import Preview

log = logging.getLogger(__name__)

Source = Path | bytes
"""A PNG file on disk, or the bytes of one."""

SMALLEST_LEVEL_PX = 1024
"""A picture is halved for drawing it small until its longer edge would be below this."""
SMOOTH_EDGE_PX = 256
"""Previews are enlarged in software to about this edge; the painter does the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image in several sizes, for drawing it at any zoom without flicker or delay.

    Attributes:
        levels: The image itself, then halves of it; never empty.
    """

    levels: tuple[QImage, ...]

    @property
    def image(self) -> QImage:
        """In full size."""
        return self.levels[0]

    def level_for(self, scale: float) -> QImage:
        """The smallest level that has at least the pixels needed at this scale."""
        fitting = 0
        for index in range(1, len(self.levels)):
            if self.levels[index].width() >= self.image.width() * scale:
                fitting = index
        return self.levels[fitting]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPicture:
    """A picture that was asked for; `picture` is None when the file cannot be read."""

    key: str
    picture: Picture | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedThumbnail:
    """A thumbnail that was asked for; `image` is null when the file cannot be read."""

    key: str
    image: QImage


def image_of_preview(preview: Preview) -> QImage:
    """The preview as an image that owns its pixels; null when sizes and bytes do not agree."""
    width, height = preview.width_px, preview.height_px
    if width <= 0 or height <= 0 or len(preview.rgb) != width * height * 3:
        log.warning(
            "preview of %d x %d px has %d bytes and is not shown", width, height, len(preview.rgb)
        )
        return QImage()
    wrapped = QImage(preview.rgb, width, height, width * 3, QImage.Format.Format_RGB888)
    return wrapped.convertToFormat(QImage.Format.Format_RGB32)


def enlarged_smoothly(image: QImage) -> QImage:
    """A small image doubled until its longer edge is about 256 px.

    Doubling several times rounds the corners that one bilinear enlargement leaves as diamonds.
    """
    while not image.isNull() and max(image.width(), image.height()) * 2 <= SMOOTH_EDGE_PX:
        image = image.scaled(
            image.size() * 2,
            Qt.AspectRatioMode.IgnoreAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
    return image


def read_image(source: Source, *, size: QSize | None = None) -> QImage:
    """Decode a PNG, scaled smoothly to `size` when given; null when it is no image."""
    if isinstance(source, bytes):
        buffer = QBuffer()
        buffer.setData(QByteArray(source))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        reader = QImageReader(buffer, QByteArray(b"png"))
        return _read(reader, size)
    return _read(QImageReader(str(source)), size)


def read_picture(source: Source) -> Picture | None:
    """Decode a PNG in full size and in the halves that drawing it small needs."""
    image = read_image(source)
    if image.isNull():
        return None
    levels = [image]
    size = image.size() / 2
    while max(size.width(), size.height()) >= SMALLEST_LEVEL_PX:
        levels.append(read_image(source, size=size))
        size = size / 2
    return Picture(levels=tuple(level for level in levels if not level.isNull()))


def read_thumbnail(source: Source, edge_px: int) -> QImage:
    """Decode a PNG so that its longer edge is at most `edge_px`; small images stay as they are."""
    if isinstance(source, bytes):
        image = read_image(source)
        size = image.size()
    else:
        size = QImageReader(str(source)).size()
        image = QImage()
    if max(size.width(), size.height()) <= edge_px:
        return image if not image.isNull() else read_image(source)
    size.scale(edge_px, edge_px, Qt.AspectRatioMode.KeepAspectRatio)
    return read_image(source, size=size.expandedTo(QSize(1, 1)))


def _read(reader: QImageReader, size: QSize | None) -> QImage:
    if size is not None:
        reader.setScaledSize(size)
    image = reader.read()
    if image.isNull():
        log.info("image cannot be read: %s", reader.errorString())
    return image


class ImageLoader(QObject):
    """Reads images in a thread of its own.

    Of several pictures asked for in a row only the last is read: someone holding an arrow key is
    not made to wait for all of them. Thumbnails are all read, in order.

    Signals:
        picture_loaded: LoadedPicture, in this object's thread.
        thumbnail_loaded: LoadedThumbnail, in this object's thread.
    """

    picture_loaded = Signal(object)
    thumbnail_loaded = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        self._newest_request = 0

    def load_picture(self, key: str, source: Source) -> None:
        """Read a picture; `picture_loaded` brings it unless another is asked for before."""
        self._newest_request += 1
        number = self._newest_request

        def task() -> None:
            if number == self._newest_request:
                self.picture_loaded.emit(LoadedPicture(key=key, picture=read_picture(source)))

        # Before waiting thumbnails: the picture is what someone looks at.
        self._pool.start(task, 1)

    def load_thumbnail(self, key: str, source: Source, edge_px: int) -> None:
        """Read a thumbnail; `thumbnail_loaded` brings it."""

        def task() -> None:
            image = read_thumbnail(source, edge_px)
            self.thumbnail_loaded.emit(LoadedThumbnail(key=key, image=image))

        self._pool.start(task, 0)

    def stop(self) -> None:
        """Forget what waits and wait for the image being read; may be called twice."""
        self._newest_request += 1
        self._pool.clear()
        self._pool.waitForDone()
