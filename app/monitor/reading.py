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
    ENGINE_RESIDENT = 6
    """Of ours, in the memory our engine computes in: weights that stay."""
    ENGINE_SLOTS = 7
    """Of ours, there: what streamed weights pass through."""
    ENGINE_WORKING = 8
    """Of ours, there: all the rest."""


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
class EngineParts:
    """What our engine's memory is used for.

    Attributes:
        on_device: Whether it is the GPU's memory; else the computer's.
        resident_bytes: Weights that stay.
        slots_bytes: What streamed weights pass through.
        working_bytes: All the rest of ours: activations, workspace, context.
    """

    on_device: bool
    resident_bytes: int
    slots_bytes: int
    working_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Memory at one moment; `time_s` is on the monotonic clock, `parts` None while nobody tells."""

    time_s: float
    host: MemoryUse
    device: MemoryUse | None = None
    parts: EngineParts | None = None

    def values(self) -> tuple[float, ...]:
        """Bytes in the order of `Series`; not a number where nobody tells."""
        device = (math.nan,) * 3 if self.device is None else _values(self.device)
        parts = self.parts
        split = (
            (math.nan,) * 3
            if parts is None
            else (
                float(parts.resident_bytes),
                float(parts.slots_bytes),
                float(parts.working_bytes),
            )
        )
        return (*device, *_values(self.host), *split)


def read(sample: Sample, report: EngineMemory | None) -> Reading:
    """Make a sample and the engine's latest report into a reading.

    The driver's figure for our engine has everything in it (weights, workspace, context), the
    engine's own only what torch holds; the larger one is nearer the truth, and under Windows, where
    drivers do not tell, it is all there is.
    """
    device = sample.device
    reported = None if report is None else report.device_reserved_bytes
    host = sample.host
    in_ram = _use(host.total_bytes, host.total_bytes - host.available_bytes, host.engine_rss_bytes)
    on_device = (
        None
        if device is None
        else _use(device.total_bytes, device.used_bytes, _larger(device.engine_bytes, reported))
    )
    return Reading(
        time_s=sample.time_s,
        host=in_ram,
        device=on_device,
        parts=None if report is None else _parts(report, on_device, in_ram),
    )


def _parts(report: EngineMemory, device: MemoryUse | None, host: MemoryUse) -> EngineParts | None:
    """What is ours, split as the engine last told; None where that tells nothing."""
    on_device = report.device_allocated_bytes is not None
    use = device if on_device else host
    if use is None or use.ours_bytes is None or report.resident_bytes + report.slots_bytes == 0:
        return None
    # The engine tells at each step and phase, the driver all the time: ours may be less by now.
    resident = min(report.resident_bytes, use.ours_bytes)
    slots = min(report.slots_bytes, use.ours_bytes - resident)
    return EngineParts(
        on_device=on_device,
        resident_bytes=resident,
        slots_bytes=slots,
        working_bytes=use.ours_bytes - resident - slots,
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
