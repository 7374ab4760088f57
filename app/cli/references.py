"""Reference images on the command line: files to follow, and sizes to plan with."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from app.core.errors import RequestError
from app.core.reference_image import (
    MAX_RATIO,
    MIN_EDGE_PX,
    reference_problems,
    reference_size_of,
)
from app.core.request import MAX_REFERENCES, MAX_SIZE_PX
from app.engine.solver import REFERENCE_PX

_SIZE = re.compile(r"(\d{1,20})[x×](\d{1,20})", re.IGNORECASE)


def reference_paths(typed: Sequence[str]) -> tuple[str, ...]:
    """Absolute paths of the files that were named.

    Raises:
        RequestError: One of them cannot be a reference image; the sentences name them all.
    """
    paths = tuple(str(_path(name)) for name in typed)
    if len(paths) <= MAX_REFERENCES:
        problems = reference_problems(paths)
        if problems:
            raise RequestError(" ".join(one.message for one in problems), code=problems[0].code)
    return paths


def planned_sizes(number: int, typed: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Width and height of each reference image to plan with.

    Args:
        number: Of those of about a megapixel.
        typed: Files and sizes.

    Raises:
        RequestError: There are too many, or one of them is neither file nor size.
    """
    count = number + len(typed)
    if number < 0 or count > MAX_REFERENCES:
        raise RequestError(
            f"Reference images are {count}: choose 0 to {MAX_REFERENCES}.",
            code="request.references",
        )
    return ((REFERENCE_PX, REFERENCE_PX),) * number + tuple(_size(name) for name in typed)


def _size(typed: str) -> tuple[int, int]:
    path = _path(typed)
    size = _SIZE.fullmatch(typed)
    # A file may be called like a size.
    if size is None or os.path.exists(path):
        return reference_size_of(str(path))
    width_px, height_px = int(size[1]), int(size[2])
    if not all(0 < edge <= 8 * MAX_SIZE_PX for edge in (width_px, height_px)):
        raise RequestError(
            f"{typed} is no size of a reference image: give its width and height in pixels.",
            code="request.references",
        )
    shorter_px, longer_px = sorted((width_px, height_px))
    if shorter_px < MIN_EDGE_PX or longer_px > MAX_RATIO * shorter_px:
        raise RequestError(
            f"No reference image can be {typed}: each side has at least {MIN_EDGE_PX} px, and the "
            f"longer one at most {MAX_RATIO} times the length of the other.",
            code="request.references",
        )
    return width_px, height_px


def _path(typed: str) -> Path:
    if not typed.strip():
        raise RequestError(
            "--reference is empty: give a PNG, JPEG or WebP file.", code="request.reference_missing"
        )
    # Not the path's own method, which raises for an unknown user.
    return Path(os.path.expanduser(typed)).absolute()
