"""Ending the process at any moment without leaving half a file behind."""

import contextlib
import os
import threading
from collections.abc import Generator
from pathlib import Path

from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX
from app.engine.receipts import Receipts


class SaveGuard:
    """Lets one file at a time be written, and lets a thread that ends the process wait for it.

    Attributes:
        receipts: Where it is noted which file each image of the running job gets; None where
            nothing is kept of it.
    """

    def __init__(self) -> None:
        self.receipts: Receipts | None = None
        self._lock = threading.Lock()
        self._folder: Path | None = None

    def forget_receipts(self) -> None:
        """Every image of the job that is there was told of: no note is needed any more."""
        if self.receipts is not None:
            self.receipts.forget()
            self.receipts = None

    @contextlib.contextmanager
    def writing(self, folder: Path) -> Generator[None]:
        """Around the writing of a file in a folder."""
        with self._lock:
            self._folder = folder
            yield

    def close(self, patience_s: float) -> None:
        """Let the file that is being written be finished, and none be begun after it.

        When it is not finished in time (a disk that hangs), what is there of it is removed.
        """
        if self._lock.acquire(timeout=patience_s) or self._folder is None:
            return
        for partial in self._folder.glob(f"{PARTIAL_PREFIX}{os.getpid()}-*{PARTIAL_SUFFIX}"):
            with contextlib.suppress(OSError):
                partial.unlink()
