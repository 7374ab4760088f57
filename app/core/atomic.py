"""Writing a file so that it is either the old one or the whole new one, never half of it."""

import contextlib
import os
import tempfile
from pathlib import Path

PARTIAL_PREFIX = ".headroom-"
PARTIAL_SUFFIX = ".part"


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder when missing.

    The bytes go to a hidden file beside it, reach the disk, then take its name in one step.

    Raises:
        OSError: The folder cannot be made or written, or the disk is full; `path` is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(
        prefix=PARTIAL_PREFIX, suffix=PARTIAL_SUFFIX, dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a picture gets the permissions of any new file.
        if os.name == "posix":
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(partial, 0o666 & ~umask)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def sweep_partials(folder: Path) -> None:
    """Remove what killed writers left in a folder; nothing happens when it does not exist."""
    for partial in folder.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}"):
        with contextlib.suppress(OSError):
            partial.unlink()
