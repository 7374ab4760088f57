"""A sample and the engine's own report made into one answer: who uses how much memory."""

import enum
import math
from dataclasses import dataclass

from app.core.device import Sample
from app.core.events import EngineMemory


class Series(enum.IntEnum):
    """What is recorded; the number is the column."""

    DEVICE_OURS = 0
    """VRAM of our engine."""
    DEVICE_OTHERS = 1
    """VRAM of everyone else; all of it while nobody tells ours."""
    DEVICE_USED = 2
    """VRAM in use."""
    HOST_OURS = 3
    """RAM of our engine."""
    HOST_OTHERS = 4
    """RAM of everyone else."""
    HOST_USED = 5
    """RAM in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Who uses how much of one memory.

    Attributes:
        total_bytes: There is.
        ours_bytes: Used by our engine; None when nobody tells.
        others_bytes: Used by everyone else, ours too when nobody tells it apart.
    """

    total_bytes: int
    ours_bytes: int | None
    others_bytes: int

    @property
    def used_bytes(self) -> int:
        """In use by everyone."""
        return (self.ours_bytes or 0) + self.others_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Memory at one moment; `time_s` is on the monotonic clock."""

    time_s: float
    host: MemoryUse
    device: MemoryUse | None = None

    def values(self) -> tuple[float, ...]:
        """Bytes in the order of `Series`; not a number where nobody tells."""
        device = (math.nan,) * 3 if self.device is None else _values(self.device)
        return (*device, *_values(self.host))


def read(sample: Sample, report: EngineMemory | None) -> Reading:
    """Make a sample and the engine's latest report into a reading.

    The driver's figure for our engine has everything in it (weights, workspace, context), the
    engine's own only what torch holds; the larger one is nearer the truth, and under Windows, where
    drivers do not tell, it is all there is.
    """
    device = sample.device
    reported = None if report is None else report.device_reserved_bytes
    host = sample.host
    return Reading(
        time_s=sample.time_s,
        host=_use(host.total_bytes, host.total_bytes - host.available_bytes, host.engine_rss_bytes),
        device=None
        if device is None
        else _use(device.total_bytes, device.used_bytes, _larger(device.engine_bytes, reported)),
    )


def _use(total_bytes: int, used_bytes: int, ours_bytes: int | None) -> MemoryUse:
    # Ours may exceed what is in use: a mapped file counts as ours, and is free for the taking.
    others_bytes = max(0, used_bytes - (ours_bytes or 0))
    return MemoryUse(total_bytes=total_bytes, ours_bytes=ours_bytes, others_bytes=others_bytes)


def _larger(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _values(use: MemoryUse) -> tuple[float, float, float]:
    ours = math.nan if use.ours_bytes is None else float(use.ours_bytes)
    return (ours, float(use.others_bytes), float(use.used_bytes))
