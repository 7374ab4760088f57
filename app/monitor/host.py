"""The computer's own memory and that of the engine process, through psutil."""

import time
from collections.abc import Callable

import psutil

from app.core.device import HostSnapshot

SWAP_INTERVAL_S = 1.0
"""Swap changes slowly, and asking costs as much as everything else together."""


class HostProbe:
    """Looks at RAM; used by one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._swap_bytes = (0, 0)
        self._swap_at_s = -float("inf")
        self._engine: psutil.Process | None = None

    def snapshot(self, engine_pid: int | None) -> HostSnapshot:
        """RAM now, with the resident memory of this process."""
        now_s = self._clock()
        if now_s - self._swap_at_s >= SWAP_INTERVAL_S:
            self._swap_at_s = now_s
            self._swap_bytes = _swap_bytes()
        memory = psutil.virtual_memory()
        used_bytes, total_bytes = self._swap_bytes
        return HostSnapshot(
            total_bytes=memory.total,
            available_bytes=memory.available,
            engine_rss_bytes=self._rss_bytes(engine_pid),
            swap_used_bytes=used_bytes,
            swap_total_bytes=total_bytes,
        )

    def _rss_bytes(self, pid: int | None) -> int | None:
        if pid is None:
            self._engine = None
            return None
        try:
            if self._engine is None or self._engine.pid != pid:
                self._engine = psutil.Process(pid)
            # A process that ended and was not waited for yet has no memory left.
            return self._engine.memory_info().rss or None
        except psutil.Error:
            self._engine = None
            return None


def _swap_bytes() -> tuple[int, int]:
    """Used and total; zeros where the system does not tell, as in some containers."""
    try:
        swap = psutil.swap_memory()
    except (psutil.Error, OSError, RuntimeError):
        return (0, 0)
    return (swap.used, swap.total)
