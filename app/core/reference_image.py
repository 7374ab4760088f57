"""Reference images: which files can be one, and their pixels as every part of the app sees them.

Files come from anywhere: broken, hostile and enormous ones are refused in a sentence.
"""

import hashlib
import io
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from app.core.errors import RequestError
from app.core.events import Preview
from app.core.request import RequestProblem

FORMATS = ("PNG", "JPEG", "WEBP")
"""Of Pillow; all others are never tried, whatever a file is called."""
MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 89_000_000
"""Above it Pillow suspects a decompression bomb; a megapixel is all that FLUX.2 reads."""
MIN_EDGE_PX = 64
"""As diffusers' Flux2ImageProcessor has it."""
MAX_RATIO = 8
"""The longer edge may have so many times the length of the shorter (Flux2ImageProcessor)."""
_ORIENTATION_TAG = 0x0112
_ON_THEIR_SIDE = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFile:
    """A file that can be a reference image, read once: what happens to it later changes nothing.

    Attributes:
        path: Absolute.
        width_px: Upright, as it is looked at.
        height_px: Upright.
        data: The whole file.
    """

    path: str
    width_px: int
    height_px: int
    data: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as plans want it."""
        return self.width_px, self.height_px

    def digest(self) -> str:
        """SHA-256 of the file: the same digest stands for the same picture."""
        return hashlib.sha256(self.data).hexdigest()

    def pixels(self) -> Image.Image:
        """The picture: RGB with 8 bits, upright, on white where it is transparent.

        Raises:
            RequestError: The file is broken behind its first bytes.
        """
        with _opened(self.path, self.data) as picture:
            return _decoded(self.path, picture)


def read_reference(path: str) -> ReferenceFile:
    """Read a file that is to be a reference image.

    Raises:
        RequestError: It cannot be one; the sentence says why.
    """
    data = _read(path)
    with _opened(path, data) as picture:
        width_px, height_px = _upright_size(path, picture)
    _check_shape(path, width_px, height_px)
    return ReferenceFile(path=path, width_px=width_px, height_px=height_px, data=data)


def reference_size_of(path: str) -> tuple[int, int]:
    """Width and height in pixels; of the file only the beginning is read.

    Raises:
        RequestError: The file cannot be a reference image; the sentence says why.
    """
    _check_file(path)
    with _opened(path, Path(path)) as picture:
        size = _upright_size(path, picture)
    _check_shape(path, *size)
    return size


def reference_problems(paths: Iterable[str]) -> tuple[RequestProblem, ...]:
    """What keeps files from being reference images, one problem for each that cannot be one."""
    found: list[RequestProblem] = []
    for path in paths:
        try:
            reference_size_of(path)
        except RequestError as error:
            found.append(RequestProblem(field="references", code=error.code, message=error.message))
    return tuple(found)


def reference_thumbnail(path: str, edge_px: int) -> Preview:
    """The picture made so small that its longer edge has `edge_px` at most.

    Raises:
        RequestError: The file cannot be a reference image; the sentence says why.
    """
    _check_file(path)
    with _opened(path, Path(path)) as picture:
        _check_shape(path, *_upright_size(path, picture))
        # Lets the JPEG decoder leave out most of its work; no other format does anything.
        picture.draft("RGB", (edge_px * 2, edge_px * 2))
        small = _decoded(path, picture)
    small.thumbnail((edge_px, edge_px), Image.Resampling.LANCZOS)
    return Preview(width_px=small.width, height_px=small.height, rgb=small.tobytes())


def digest_of_file(path: str) -> str | None:
    """What `ReferenceFile.digest` says of a file; None when it cannot be read."""
    try:
        return hashlib.sha256(_read(path)).hexdigest()
    except RequestError:
        return None


def _read(path: str) -> bytes:
    _check_file(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_file(path: str) -> None:
    """Refuse what is no file, or too large to be looked at."""
    try:
        found = Path(path).stat()
    except FileNotFoundError as error:
        raise RequestError(
            f"The reference image {path} is not there: choose another one, or bring the file back.",
            code="request.reference_missing",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path.
        raise _unreadable(path, error) from error
    # A pipe would block forever and a device never end.
    if not stat.S_ISREG(found.st_mode):
        raise _no_image(path)
    if found.st_size > MAX_FILE_BYTES:
        raise RequestError(
            f"The reference image {path} is a file of {found.st_size >> 20} MB: "
            f"choose one below {MAX_FILE_BYTES >> 20} MB.",
            code="request.reference_large",
        )


def _opened(path: str, source: Path | bytes) -> Image.Image:
    """The picture with its header read; its pixels are not."""
    try:
        return Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(path) from error
    except Image.UnidentifiedImageError as error:
        raise _no_image(path) from error
    except MemoryError:
        raise
    # Pillow's readers raise whatever they stumble over in a broken header.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(path, error) from error
        raise _broken(path, error) from error


def _upright_size(path: str, picture: Image.Image) -> tuple[int, int]:
    width_px, height_px = picture.size
    if width_px * height_px > MAX_PIXELS:
        raise _too_many_pixels(path)
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    # Of a broken note about the camera, nothing is taken.
    except Exception:  # noqa: BLE001
        orientation = None
    return (height_px, width_px) if orientation in _ON_THEIR_SIDE else (width_px, height_px)


def _check_shape(path: str, width_px: int, height_px: int) -> None:
    size = f"{width_px} × {height_px} px"
    if min(width_px, height_px) < MIN_EDGE_PX:
        raise RequestError(
            f"The reference image {path} has only {size}: choose one with at least "
            f"{MIN_EDGE_PX} px along each edge.",
            code="request.reference_small",
        )
    if max(width_px, height_px) > MAX_RATIO * min(width_px, height_px):
        raise RequestError(
            f"The reference image {path} is too long and narrow ({size}): "
            f"cut it to at most {MAX_RATIO}:1.",
            code="request.reference_shape",
        )


def _decoded(path: str, picture: Image.Image) -> Image.Image:
    try:
        picture.load()
        return _on_white(_upright(picture))
    except MemoryError:
        raise
    # Pillow's decoders raise whatever they stumble over: OSError, ValueError, SyntaxError, ...
    except Exception as error:
        raise _broken(path, error) from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    # As in `_upright_size`: a broken note turns nothing.
    except Exception:  # noqa: BLE001
        return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        # 16 bits of grey, which Pillow itself would cut off at white instead of scaling.
        return picture.convert("I").point(lambda grey: grey * (1 / 257)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def _no_image(path: str) -> RequestError:
    return RequestError(
        f"{path} is no image that can be a reference: choose a PNG, JPEG or WebP file.",
        code="request.reference_format",
    )


def _too_many_pixels(path: str) -> RequestError:
    return RequestError(
        f"The reference image {path} has too many pixels: make it smaller, one million is all "
        "that FLUX.2 reads.",
        code="request.reference_large",
    )


def _broken(path: str, error: Exception) -> RequestError:
    return RequestError(
        f"The reference image {path} is damaged: save it again, or choose another one.",
        code="request.reference_broken",
        details=f"{type(error).__name__}: {error}",
    )


def _unreadable(path: str, error: Exception) -> RequestError:
    reason = getattr(error, "strerror", None) or str(error)
    return RequestError(
        f"The reference image {path} cannot be read ({reason}): "
        "check its permissions, or choose another one.",
        code="request.reference_unreadable",
    )
