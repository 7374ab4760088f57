"""What a disk can do: files read from it and written to it, past what the system has in RAM."""

import os
import threading
import time
from pathlib import Path

CHUNK_BYTES = 8 << 20


def forget(path: Path) -> bool:
    """Have the system drop what it has of a file in RAM; False where it cannot be told to."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        # Pages that are not on the disk yet stay.
        os.fsync(handle)
        advise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return True


def read_seconds(path: Path) -> float:
    """All of a file from its begin to its end, in order."""
    buffer = bytearray(CHUNK_BYTES)
    began_s = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began_s


def write_seconds(path: Path, size_bytes: int) -> float:
    """A new file, until all of it is on the disk; it is removed."""
    chunk = os.urandom(CHUNK_BYTES)
    began_s = time.perf_counter()
    try:
        with path.open("wb", buffering=0) as file:
            left = size_bytes
            while left > 0:
                file.write(chunk[: min(left, CHUNK_BYTES)])
                left -= CHUNK_BYTES
            os.fsync(file.fileno())
        return time.perf_counter() - began_s
    finally:
        path.unlink(missing_ok=True)


def both_seconds(source: Path, target: Path, size_bytes: int) -> float:
    """A file is read while another is written, until both are done."""
    reader = threading.Thread(target=read_seconds, args=(source,), name="disk-reader")
    began_s = time.perf_counter()
    reader.start()
    try:
        write_seconds(target, size_bytes)
    finally:
        reader.join()
    return time.perf_counter() - began_s
