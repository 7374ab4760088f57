"""Says before minutes of work whether files can be written in a folder."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why nothing can be written in a folder.

    Attributes:
        at: The folder, or the nearest above it that is there: what is in the way, or forbids it.
        is_file: `at` is a file.
        reason: What the system said; "" for a file.
    """

    at: Path
    is_file: bool
    reason: str = ""


def existing_part(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: it would be made in that one."""
    # Not the path's own method, which raises where looking is not permitted.
    return next(
        (path for path in (folder, *folder.parents) if os.path.exists(path)), Path(folder.anchor)
    )


def obstacle_to_writing(folder: Path) -> Obstacle | None:
    """What keeps files from being written in a folder, made where missing; None when nothing."""
    existing = existing_part(folder.absolute())
    if os.path.isfile(existing):
        return Obstacle(at=existing, is_file=True)
    try:
        # Permission bits say too little on Windows and network drives: only writing tells.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return Obstacle(at=existing, is_file=False, reason=error.strerror or str(error))
