"""Taking a file away so that it can be had back."""

import logging
import os
from pathlib import Path

from app.core.naming import numbered

log = logging.getLogger(__name__)

OWN_TRASH = ".trash"
"""Folder beside the file, used where the system has no trash (a server, a network drive)."""


def move_to_trash(path: Path) -> None:
    """Move a file to the system's trash, or into a folder `.trash` beside it.

    Raises:
        OSError: It cannot be moved; it is where it was.
    """
    # Here and not above: on Linux it loads the desktop's libraries, which only a deletion needs.
    from send2trash import send2trash

    try:
        send2trash(str(path))
    except OSError as error:
        log.info("no system trash for %s: %s", path.name, error)
        move_beside(path)


def move_beside(path: Path) -> None:
    """Move a file into a folder `.trash` beside it, replacing nothing there.

    Raises:
        OSError: It cannot be moved; it is where it was.
    """
    folder = path.parent / OWN_TRASH
    folder.mkdir(exist_ok=True)
    names = (folder / f"{stem}{path.suffix}" for stem in numbered(path.stem))
    os.rename(path, next(name for name in names if not name.exists()))
