"""How fast weights can be read from the disk, past the memory in which the system keeps files.

A file is read with direct access, which asks the disk itself; where that is not possible nothing is
measured, because a file that was read lately would come from memory at many times the disk's speed.
"""

import contextlib
import io
import logging
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX

log = logging.getLogger(__name__)

ENOUGH_BYTES = 64 << 20
"""A smaller file says more about the disk's cache and the start of the read than about its rate."""
MOST_BYTES = 1 << 30
MOST_SECONDS = 1.5
_CHUNK_BYTES = 8 << 20
"""A multiple of every disk's sector, as direct access needs."""
_SPARE_BYTES = 1 << 30
"""Free space below which no file is written to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpeed:
    """What reading showed.

    Attributes:
        bytes_per_s: None where it could not be measured.
        remark: One sentence: what was read, or why nothing was measured.
    """

    bytes_per_s: float | None
    remark: str


def measure_disk(
    folders: Sequence[Path], scratch: Path, *, clock: Callable[[], float] = time.perf_counter
) -> DiskSpeed:
    """Read the largest weights of these model folders, or else a file written for it.

    Args:
        folders: Of models in diffusers layout.
        scratch: A folder where a temporary file may be written; made when missing.
        clock: In seconds.
    """
    try:
        weights = _largest_weights(folders)
        if weights is not None:
            speed = _read_speed(weights, clock)
            return DiskSpeed(bytes_per_s=speed, remark="The disk was measured with a model's file.")
        with _written_file(scratch) as path:
            speed = _read_speed(path, clock)
            remark = "The disk of the cache folder was measured: no model with large files is here."
            return DiskSpeed(bytes_per_s=speed, remark=remark)
    except OSError as error:
        log.info("the disk cannot be measured: %s", error)
        reason = error.strerror or error
        return DiskSpeed(bytes_per_s=None, remark=f"The disk could not be measured ({reason}).")


def _largest_weights(folders: Sequence[Path]) -> Path | None:
    found: list[tuple[int, Path]] = []
    for folder in folders:
        for pattern in ("*.safetensors", "*/*.safetensors"):
            # A folder that is gone, as one on a disk that was unplugged.
            with contextlib.suppress(OSError):
                found += [(path.stat().st_size, path) for path in folder.glob(pattern)]
    size_bytes, path = max(found, default=(0, Path()))
    return path if size_bytes >= ENOUGH_BYTES else None


@contextlib.contextmanager
def _written_file(folder: Path) -> Generator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < _SPARE_BYTES:
        raise OSError("the disk is nearly full")
    # Swept with other files of killed writers when the process ends in the middle.
    path = folder / f"{PARTIAL_PREFIX}{os.getpid()}-{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
    try:
        with path.open("xb") as file:
            for _chunk in range(2 * ENOUGH_BYTES // _CHUNK_BYTES):
                # Random, because some disks and file systems pack what repeats.
                file.write(os.urandom(_CHUNK_BYTES))
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _read_speed(path: Path, clock: Callable[[], float]) -> float:
    """Bytes per second of reading a file from its beginning.

    Raises:
        OSError: It cannot be read past the system's memory.
    """
    # Anonymous memory begins at a page, as direct access needs.
    with mmap.mmap(-1, _CHUNK_BYTES) as buffer, _open_direct(path) as file:
        read_bytes = 0
        start_s = clock()
        while read_bytes < MOST_BYTES and clock() - start_s < MOST_SECONDS:
            count = file.readinto(buffer)
            if not count:
                break
            read_bytes += count
        seconds = clock() - start_s
    if read_bytes == 0 or seconds <= 0:
        raise OSError("nothing came from it")
    return read_bytes / seconds


def _open_direct(path: Path) -> io.FileIO:
    # Windows has such access too, but Python's open does not offer it; macOS has another call.
    flag: int | None = getattr(os, "O_DIRECT", None)
    if flag is None:
        raise OSError("this system does not let it be read past its memory")
    return io.FileIO(os.open(path, os.O_RDONLY | flag), "rb")
