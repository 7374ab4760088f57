"""Keeps two set-ups of the same environment from getting into each other's way."""

import contextlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

LOCK_NAME = "headroom-setup.lock"


@contextlib.contextmanager
def setup_lock(folder: Path, *, on_wait: Callable[[], None]) -> Generator[None, None, None]:
    """Hold the environment's lock while the block runs; the system releases it if we are killed.

    Args:
        folder: Of the environment; made when missing.
        on_wait: Called once when another set-up holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a+b") as file:
        if not _try_lock(file):
            on_wait()
            _wait_for_lock(file)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_for_lock(file: IO[bytes]) -> None:
        # LK_LOCK gives up with an error after ten tries, one a second.
        while True:
            file.seek(0)
            with contextlib.suppress(OSError):
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                return

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # Some network disks have no locks; set-up works there too, just unguarded.
            return True
        return True

    def _wait_for_lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
