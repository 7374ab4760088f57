"""Which processes belong to the engine: itself and what it started."""

from collections.abc import Callable

import psutil

MAX_DEPTH = 16
"""Longer chains of parents than any program makes."""
MAX_KNOWN = 256
"""Answers kept; process numbers are used again, so they are forgotten now and then."""


def parent_of(pid: int) -> int | None:
    """The number of a process's parent; None when either is gone or not ours to see."""
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


class Ancestry:
    """Remembers who descends from whom: asking the system ten times a second would be felt."""

    def __init__(self, parent_of: Callable[[int], int | None] = parent_of) -> None:
        self._parent_of = parent_of
        self._known: dict[tuple[int, int], bool] = {}

    def descends(self, pid: int, ancestor_pid: int) -> bool:
        """Whether this is the process `ancestor_pid` or one below it."""
        if pid == ancestor_pid:
            return True
        key = (pid, ancestor_pid)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = self._ask(pid, ancestor_pid)
        return known

    def _ask(self, pid: int, ancestor_pid: int) -> bool:
        current: int | None = pid
        for _ in range(MAX_DEPTH):
            current = self._parent_of(current) if current else None
            if current == ancestor_pid:
                return True
            if not current:
                return False
        return False
