"""One memory's use over time against what the phases to come need of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.monitor.run_progress import Need, RunProgress
from app.monitor.shortage import Cause, Shortage
from app.monitor.trend import Growth, Trend

DETECTION_S = 1.2
"""From the beginning of a growth to the prediction, at ten samples a second."""
TRUST = 4.0
"""Growth is expected to go on for this many times as long as it was seen, within two looks of the
engine; for as long as it was seen in phases that are farther away."""
MAX_GROWN = 2.0
"""A run that uses more than planned is not expected to need more than this many times the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Who uses how much of a memory at one moment."""

    total_bytes: int
    ours_bytes: int
    others_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sign:
    """What speaks for a shortage."""

    cause: Cause
    growth: Growth
    took_bytes: int


class NeedWatch:
    """One memory's use over time against the needs of the phases to come.

    Used for a GPU, and for RAM when the run is on the CPU.
    """

    def __init__(self, *, significant_bytes: int) -> None:
        """Begin with nothing.

        Args:
            significant_bytes: Smaller changes mean nothing; as much is kept to spare.
        """
        self._significant_bytes = significant_bytes
        self._others = Trend(min_rise_bytes=significant_bytes)
        self._ours = Trend(min_rise_bytes=significant_bytes)
        self._base_others_bytes: int | None = None
        self._held_bytes: int | None = None
        self._base_plan = 0
        self._settled = False

    def look(self, time_s: float, use: Use, progress: RunProgress) -> Shortage | None:
        """How things stand; None when nothing has changed since the plan was made.

        A plan that is tight by itself is no reason: the planner knew what it did.
        """
        if progress.plan_number != self._base_plan or self._base_others_bytes is None:
            self._base_plan = progress.plan_number
            self._base_others_bytes = use.others_bytes
        if self._held_bytes is None:
            self._held_bytes = use.ours_bytes
        self._others.add(time_s, use.others_bytes)
        if progress.settled != self._settled:
            # Before a phase repeats itself, that it uses more and more is its nature.
            self._settled = progress.settled
            self._ours.reset()
        if self._settled:
            self._ours.add(time_s, use.ours_bytes)
        found = (self._others_shortage(use, progress), self._own_shortage(use, progress))
        return max(
            (one for one in found if one is not None),
            key=lambda shortage: shortage.short_bytes,
            default=None,
        )

    def _others_shortage(self, use: Use, progress: RunProgress) -> Shortage | None:
        took_bytes = use.others_bytes - (self._base_others_bytes or 0)
        if took_bytes < self._significant_bytes:
            return None
        sign = _Sign(cause=Cause.OTHERS, growth=self._others.growth(), took_bytes=took_bytes)

        def shortage(need: Need) -> Shortage:
            # A phase that repeats itself needs what it has, whatever was planned for it.
            repeats = need.phase is progress.phase and progress.settled
            return self._shortage(
                sign, need, use.ours_bytes if repeats else need.bytes, use, progress
            )

        return _worst(shortage(need) for need in progress.remaining())

    def _own_shortage(self, use: Use, progress: RunProgress) -> Shortage | None:
        reached = progress.reached()
        if reached is None or not progress.under_plan:
            return None
        # What the run before has left in the allocator's cache is used before more is taken.
        expected_bytes = max(reached.peak_vram_bytes, self._held_bytes or 0)
        excess_bytes = use.ours_bytes - expected_bytes
        if excess_bytes <= max(reached.uncertainty_bytes, self._significant_bytes):
            return None
        above_weights = reached.working_bytes + reached.overhead_bytes
        grown = min(MAX_GROWN, 1 + excess_bytes / above_weights) if above_weights else 1.0
        now = _Sign(cause=Cause.GROWTH, growth=self._ours.growth(), took_bytes=excess_bytes)
        later = _Sign(cause=Cause.GROWTH, growth=Growth(), took_bytes=excess_bytes)

        def shortage(need: Need) -> Shortage:
            plan = need.plan
            needed = plan.weights_bytes + round((plan.working_bytes + plan.overhead_bytes) * grown)
            if need.phase is not progress.phase:
                return self._shortage(later, need, needed, use, progress)
            needed = use.ours_bytes if progress.settled else max(needed, use.ours_bytes)
            return self._shortage(now, need, needed, use, progress)

        return _worst(shortage(need) for need in progress.remaining())

    def _shortage(
        self, sign: _Sign, need: Need, needed_bytes: int, use: Use, progress: RunProgress
    ) -> Shortage:
        """For one phase: what is to spare then, less what is expected to be taken until then."""
        spare_bytes = use.total_bytes - use.others_bytes - needed_bytes - self._significant_bytes
        near_s = 2 * progress.look_s + DETECTION_S
        more_bytes = _expected_growth(sign.growth, need, near_s)
        return Shortage(
            cause=sign.cause,
            phase=need.phase,
            short_bytes=min(more_bytes - spare_bytes, needed_bytes),
            in_s=_time_to(spare_bytes, sign.growth, need),
            took_bytes=sign.took_bytes,
            growing=spare_bytes >= 0,
        )


def _expected_growth(growth: Growth, need: Need, near_s: float) -> int:
    """Within the time to the engine's second look, or by the end of a later phase."""
    reach_s = min(near_s, TRUST * growth.seen_s)
    if need.begins_in_s > 0:
        reach_s = max(reach_s, min(need.ends_in_s, growth.seen_s))
    return round(growth.bytes_per_s * reach_s)


def _time_to(spare_bytes: int, growth: Growth, need: Need) -> float:
    if spare_bytes <= 0 or growth.bytes_per_s <= 0:
        return need.begins_in_s
    return max(need.begins_in_s, spare_bytes / growth.bytes_per_s)


def _worst(shortages: Iterable[Shortage]) -> Shortage | None:
    return max(shortages, key=lambda shortage: shortage.short_bytes, default=None)
