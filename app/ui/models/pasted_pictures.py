"""Pictures that are pasted have no file: they get one, named by what is in it."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Collection
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QCoreApplication, QIODevice
from PySide6.QtGui import QImage, QImageWriter

from app.core.atomic import write_atomic
from app.core.errors import OutputError

log = logging.getLogger(__name__)

KEPT_S = 90 * 24 * 3600.0
"""Jobs that still wait, and pictures that were made with one, find it for so long."""
_NAME = "pasted-{digest}.png"
_PATTERN = "pasted-*.png"
_DIGITS = 16


def keep_picture(image: QImage, folder: Path) -> Path:
    """Write a picture to its file; the same picture has the same one.

    Raises:
        OutputError: It cannot be written.
    """
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    saved = QImageWriter(buffer, QByteArray(b"png")).write(image)
    data = bytes(buffer.data().data())
    path = folder / _NAME.format(digest=hashlib.sha256(data).hexdigest()[:_DIGITS])
    if not saved:
        raise _problem(folder, "no PNG could be made of it")
    try:
        write_atomic(path, data)
    except OSError as error:
        raise _problem(folder, str(error)) from error
    return path


def sweep_pictures(folder: Path, kept: Collection[str]) -> None:
    """Remove pictures that were pasted long ago, but for those that are in use."""
    before_s = time.time() - KEPT_S
    for path in folder.glob(_PATTERN):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before_s and str(path) not in kept:
                path.unlink()
                log.info("%s was pasted long ago and is removed", path.name)


def _problem(folder: Path, details: str) -> OutputError:
    return OutputError(
        QCoreApplication.translate(
            "PastedPictures",
            "The pasted picture cannot be kept in {folder}: check the disk, or save it as a "
            "file and add that.",
        ).format(folder=folder),
        code="output.pasted",
        details=details,
    )
