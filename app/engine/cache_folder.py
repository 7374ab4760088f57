"""Files of a bounded size in all, that can be made again: the longest unused make room."""

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from app.core.atomic import sweep_partials, write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    used_ns: int
    size_bytes: int
    path: Path


class CacheFolder:
    """Whole files by name; may be used by several processes. What fails costs the file only."""

    def __init__(self, folder: Path, *, suffix: str, capacity_bytes: int) -> None:
        """Touch nothing yet.

        Args:
            folder: Made when first written to.
            suffix: Of the files; others in the folder are left alone.
            capacity_bytes: Of all files together, at most.
        """
        self._folder = folder
        self._suffix = suffix
        self._capacity_bytes = capacity_bytes

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None; it is the last used now."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def holds(self, name: str) -> bool:
        """Whether there is such a file; what is in it is not looked at."""
        return os.path.isfile(self._path(name))

    def write(self, name: str, data: bytes) -> bool:
        """Keep a file, whole or not at all, and have those that were not used for long make room.

        Returns:
            Whether it is kept now.
        """
        if len(data) > self._capacity_bytes:
            return False
        try:
            sweep_partials(self._folder)
            self._make_room(len(data), for_name=name)
            write_atomic(self._path(name), data)
        except OSError as error:
            log.info("%s cannot be kept: %s", self._path(name), error)
            return False
        return True

    def remove(self, name: str) -> None:
        """Have no such file."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(one.size_bytes for one in self._files())

    def clear(self) -> None:
        """Have no file."""
        for one in self._files():
            with contextlib.suppress(OSError):
                one.path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{self._suffix}"

    def _files(self) -> list[_Found]:
        found: list[_Found] = []
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"*{self._suffix}"):
                # Another process may have removed it since.
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    found.append(
                        _Found(used_ns=stat.st_mtime_ns, size_bytes=stat.st_size, path=path)
                    )
        return found

    def _make_room(self, size_bytes: int, *, for_name: str) -> None:
        others = [one for one in self._files() if one.path != self._path(for_name)]
        left_bytes = sum(one.size_bytes for one in others)
        for one in sorted(others, key=lambda one: one.used_ns):
            if left_bytes + size_bytes <= self._capacity_bytes:
                return
            with contextlib.suppress(OSError):
                one.path.unlink()
            left_bytes -= one.size_bytes
