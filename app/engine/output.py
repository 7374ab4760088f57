"""Images as PNG files: encoded with their record, and written whole or not at all."""

import errno
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image, PngImagePlugin

from app.core.atomic import sweep_partials, write_atomic, write_new
from app.core.errors import OutputError
from app.core.jobs import OutputTarget
from app.core.metadata import (
    PARAMETERS_KEY,
    RECORD_KEY,
    ImageRecord,
    parameters_text,
    record_to_json,
)
from app.core.naming import NameFields, file_stem, numbered

SUFFIX = ".png"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WINDOWS_DISK_FULL = frozenset({39, 112})


def encode_png(rgb: bytes, *, width_px: int, height_px: int, record: ImageRecord | None) -> bytes:
    """An image as a PNG file's bytes.

    Args:
        rgb: Tightly packed rows, 8 bits a channel.
        width_px: Of the image.
        height_px: Of the image.
        record: How it was made, kept in the file; None leaves all of it out.
    """
    image = Image.frombytes("RGB", (width_px, height_px), rgb)
    texts = PngImagePlugin.PngInfo()
    if record is not None:
        texts.add_itxt(RECORD_KEY, record_to_json(record))
        # Pillow writes tEXt where Latin-1 suffices, which old readers need, else iTXt.
        texts.add_text(PARAMETERS_KEY, parameters_text(record))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def write_png(
    png: bytes,
    target: OutputTarget,
    naming: NameFields,
    *,
    on_name: Callable[[Path], None] | None = None,
) -> Path:
    """Write a PNG file where its job wants it.

    With `target.file` the first image of the batch gets exactly that path, replacing what is there.
    Its user has named no other file, so the further images get -2, -3 behind its stem, or the next
    numbers that are free. Else a new file is made in `target.folder`.

    Args:
        png: The whole file.
        target: Where the job wants it.
        naming: What its name is made of.
        on_name: Told each path just before the file may get it.

    Returns:
        Absolute path of the file.

    Raises:
        OutputError: The place cannot be written; no part of a file is left there.
        RequestError: The name template cannot be used.
    """
    replaces = target.file is not None and naming.index == 0
    first_number = 1
    if target.file is not None:
        path = Path(target.file).absolute()
        first_number += naming.index
    else:
        path = Path(target.folder).absolute() / file_stem(target.name_template, naming)
        path = path.with_name(path.name + SUFFIX)
    try:
        # First, since what killed writers left may be what fills the disk.
        sweep_partials(path.parent)
        if replaces:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
            if on_name is not None:
                on_name(path)
            write_atomic(path, png)
        else:
            # Not the path's own parts: a dot in the name is no suffix.
            stem, suffix = path.name[: -len(SUFFIX)], path.name[-len(SUFFIX) :]
            names = numbered(stem, first_number)
            paths = (path.with_name(name + suffix) for name in names)
            path = write_new(_told(paths, on_name), png)
    except OSError as error:
        raise _output_error(error, path) from error
    return path


def _told(paths: Iterable[Path], on_name: Callable[[Path], None] | None) -> Iterator[Path]:
    """The paths, each told when its turn comes; one that is taken is passed over unsaid."""
    for path in paths:
        if on_name is not None and not path.exists():
            on_name(path)
        yield path


def _output_error(error: OSError, path: Path) -> OutputError:
    """The sentence for what the system said."""
    if isinstance(error, IsADirectoryError):
        return OutputError(
            f"The image cannot be saved as {path}, because that is a folder: "
            "give a file name in it.",
            code="output.folder",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return OutputError(
            f"The image cannot be saved in {path.parent}, because that is not a folder: "
            "choose another folder.",
            code="output.folder",
        )
    if error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_DISK_FULL:
        return OutputError(
            f"The image cannot be saved in {path.parent}, because the disk is full: "
            "free some space, or choose a folder on another disk.",
            code="output.disk_full",
        )
    if error.errno in _FORBIDDEN:
        return OutputError(
            f"The image cannot be saved as {path}, because writing is not permitted there: "
            "change the folder's permissions, or choose another folder.",
            code="output.permission",
        )
    return OutputError(
        f"The image cannot be saved as {path} ({error.strerror or error}): "
        "choose another folder or name.",
        code="output.failed",
        details=str(error),
    )
