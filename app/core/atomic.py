"""Writing a file so that it is either the old one or the whole new one, never half of it."""

import contextlib
import errno
import os
import secrets
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

import psutil

PARTIAL_PREFIX = ".headroom-"
PARTIAL_SUFFIX = ".part"
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What FAT, some network drives and Android answer to a hard link."""

_RENAME_REFUSES = os.name == "nt"
"""Windows never replaces a file by renaming another; POSIX systems do."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder when missing, replacing what is there.

    The bytes go to a hidden file beside it, reach the disk, then take its name in one step.

    Raises:
        OSError: The folder cannot be made or written, or the disk is full; `path` is as before.
    """
    with _partial_file(path.parent, data) as partial:
        os.replace(partial, path)


@contextlib.contextmanager
def atomic_file(path: Path) -> Generator[BinaryIO]:
    """A file to write step by step, which takes the name `path` when the block ends well.

    When it does not, `path` is as before and nothing is left behind.

    Raises:
        OSError: The folder cannot be made or written, or the disk is full.
    """
    with _partial(path.parent) as (partial, file):
        yield file
        _finish(file)
        os.replace(partial, path)


def write_new(candidates: Iterable[Path], data: bytes) -> Path:
    """Write `data` to the first of these paths of one folder that does not exist, and return it.

    No file is ever replaced, also when another program takes a name at the same moment.

    Raises:
        OSError: The folder cannot be made or written, or the disk is full; nothing is left behind.
    """
    paths = iter(candidates)
    path = next(paths)
    with _partial_file(path.parent, data) as partial:
        while True:
            try:
                _take_name(partial, path)
            except FileExistsError:
                path = next(paths)
            else:
                return path


def sweep_partials(folder: Path) -> None:
    """Remove what killed writers left in a folder; nothing happens when it does not exist.

    Files of processes that still run are left alone: they are being written.
    """
    # A disk that is gone or does not answer: there is nothing to sweep.
    with contextlib.suppress(OSError):
        for partial in tuple(folder.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}")):
            if not _is_being_written(partial):
                with contextlib.suppress(OSError):
                    partial.unlink()


def _is_being_written(partial: Path) -> bool:
    pid = partial.name.removeprefix(PARTIAL_PREFIX).partition("-")[0]
    try:
        return psutil.pid_exists(int(pid))
    except (ValueError, OverflowError):  # No process has such a number.
        return False


@contextlib.contextmanager
def _partial_file(folder: Path, data: bytes) -> Generator[Path]:
    """A hidden file with `data`, safely on the disk; removed when it is not renamed."""
    with _partial(folder) as (partial, file):
        file.write(data)
        _finish(file)
        yield partial


@contextlib.contextmanager
def _partial(folder: Path) -> Generator[tuple[Path, BinaryIO]]:
    """An empty hidden file, open for writing; removed when it is not renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{PARTIAL_PREFIX}{os.getpid()}-{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
    partial = folder / name
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    # 0o666 less the umask: a picture gets the permissions of any new file.
    handle = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield partial, file
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _finish(file: BinaryIO) -> None:
    """Have all of it on the disk, and the file closed: Windows renames no open file."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _take_name(partial: Path, path: Path) -> None:
    """Give a file its name, or raise FileExistsError when the name is taken."""
    if _RENAME_REFUSES:
        os.rename(partial, path)
        return
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # No hard links on this disk: claim the name with an empty file, then replace that.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            os.replace(partial, path)
        except BaseException:
            path.unlink()
            raise
