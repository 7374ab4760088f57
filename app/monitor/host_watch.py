"""The computer's RAM during a run: what is left of it, and whether the system swaps."""

from dataclasses import replace
from typing import Protocol

from app.core.device import HostSnapshot
from app.core.jobs import Phase
from app.core.units import MIB
from app.monitor.need_watch import DETECTION_S, TRUST, NeedWatch, Use
from app.monitor.run_progress import RunProgress
from app.monitor.shortage import Cause, Shortage
from app.monitor.trend import Trend

MIN_FLOOR_BYTES = 256 * MIB
FLOOR_SHARE = 0.02
"""With less than this of RAM left, the system is busy swapping and may end processes."""
MIN_SIGNIFICANT_BYTES = 256 * MIB
SIGNIFICANT_SHARE = 0.01
SWAPPING_SHARE = 0.1
"""Swap that fills while more than this of RAM is left is the system tidying up."""


class RamWatch(Protocol):
    """Looks at RAM during one run."""

    def look(self, time_s: float, host: HostSnapshot, progress: RunProgress) -> Shortage | None:
        """How things stand; None when nobody has taken RAM since the plan was made."""
        ...


def ram_watch(*, total_bytes: int, on_cpu: bool) -> RamWatch:
    """What fits the run: on the CPU, RAM is the device that was planned for."""
    kind = CpuRunWatch if on_cpu else GpuRunWatch
    return kind(
        floor_bytes=max(MIN_FLOOR_BYTES, int(total_bytes * FLOOR_SHARE)),
        significant_bytes=max(MIN_SIGNIFICANT_BYTES, int(total_bytes * SIGNIFICANT_SHARE)),
    )


class _Others:
    """RAM of others, from all that is used and what counts as ours.

    Mapped files count as ours but are free for the taking. When they come, others seem to have
    less, which is no gain to lose later; when they go, others seem to have more, though nothing
    is taken: others never count as more than at the beginning and what was taken since.
    """

    def __init__(self, *, used_bytes: int, ours_bytes: int) -> None:
        self.base_bytes = max(0, used_bytes - ours_bytes)
        self._least_used_bytes = used_bytes

    def look(self, *, used_bytes: int, ours_bytes: int) -> int:
        """Bytes of others now."""
        self._least_used_bytes = min(self._least_used_bytes, used_bytes)
        taken_bytes = used_bytes - self._least_used_bytes
        seeming_bytes = used_bytes - ours_bytes
        return max(self.base_bytes, min(seeming_bytes, self.base_bytes + taken_bytes))


class CpuRunWatch:
    """RAM against the needs of each phase."""

    def __init__(self, *, floor_bytes: int, significant_bytes: int) -> None:
        self._floor_bytes = floor_bytes
        self._needs = NeedWatch(significant_bytes=significant_bytes)
        self._others: _Others | None = None

    def look(self, time_s: float, host: HostSnapshot, progress: RunProgress) -> Shortage | None:
        """How things stand; None when nobody has taken RAM since the plan was made."""
        ours_bytes = host.engine_rss_bytes or 0
        if self._others is None:
            self._others = _Others(used_bytes=_used(host), ours_bytes=ours_bytes)
        use = Use(
            total_bytes=host.total_bytes - self._floor_bytes,
            ours_bytes=ours_bytes,
            others_bytes=self._others.look(used_bytes=_used(host), ours_bytes=ours_bytes),
        )
        found = self._needs.look(time_s, use, progress)
        return None if found is None else replace(found, cause=Cause.RAM)


class GpuRunWatch:
    """RAM against what the plan takes of it besides the device."""

    def __init__(self, *, floor_bytes: int, significant_bytes: int) -> None:
        self._floor_bytes = floor_bytes
        self._significant_bytes = significant_bytes
        self._trend = Trend(min_rise_bytes=significant_bytes)
        self._base: HostSnapshot | None = None
        self._others: _Others | None = None
        self._base_plan = 0

    def look(self, time_s: float, host: HostSnapshot, progress: RunProgress) -> Shortage | None:
        """How things stand; None when nobody has taken RAM since the plan was made."""
        plan_is_new = progress.plan_number != self._base_plan
        if self._base is None or self._others is None or plan_is_new:
            self._base, self._base_plan = host, progress.plan_number
            self._others = _Others(used_bytes=_used(host), ours_bytes=host.engine_rss_bytes or 0)
            self._trend.reset()
        base = self._base
        ours_bytes = _ours_bytes(host, base, progress.plan.ram_peak_bytes)
        others_bytes = self._others.look(used_bytes=_used(host), ours_bytes=ours_bytes)
        self._trend.add(time_s, others_bytes)
        swapped_bytes = host.swap_used_bytes - base.swap_used_bytes
        took_bytes = others_bytes - self._others.base_bytes
        swaps = (
            swapped_bytes >= self._significant_bytes
            and host.available_bytes < host.total_bytes * SWAPPING_SHARE
        )
        if took_bytes < self._significant_bytes and not swaps:
            return None
        growth = self._trend.growth()
        reach_s = min(2 * progress.look_s + DETECTION_S, TRUST * growth.seen_s)
        more_bytes = round(growth.bytes_per_s * reach_s)
        to_come_bytes = max(0, progress.plan.ram_peak_bytes - ours_bytes)
        spare_bytes = host.available_bytes - to_come_bytes - self._floor_bytes
        short_bytes = more_bytes - spare_bytes
        if swaps:
            short_bytes = max(short_bytes, swapped_bytes)
        return Shortage(
            cause=Cause.RAM,
            phase=progress.phase or Phase.LOAD,
            short_bytes=short_bytes,
            in_s=spare_bytes / growth.bytes_per_s
            if spare_bytes > 0 and growth.bytes_per_s > 0
            else 0.0,
            took_bytes=max(took_bytes, swapped_bytes),
            growing=spare_bytes >= 0,
        )


def _ours_bytes(host: HostSnapshot, base: HostSnapshot, planned_bytes: int) -> int:
    """RAM that is ours, with the benefit of the doubt: up to the plan, growth is our own.

    What is pinned for the GPU is not in the resident memory of the process everywhere.
    """
    rss_bytes = host.engine_rss_bytes or 0
    grown_bytes = max(0, _used(host) - _used(base))
    return max(rss_bytes, min(planned_bytes, (base.engine_rss_bytes or 0) + grown_bytes))


def _used(host: HostSnapshot) -> int:
    return host.total_bytes - host.available_bytes
