"""A plan as the memory graph draws it: boxes over time, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import GenerationPlan, PhasePlan, Verdict
from app.ui.models.memory_frame import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBox:
    """What one phase is expected to use, from when to when.

    Attributes:
        phase: Which.
        start_s: On the monotonic clock, or from now.
        end_s: On the same clock.
        low_bytes: Lower end of what our engine is expected to use at most.
        expected_bytes: The middle of it.
        high_bytes: Upper end.
        over: Whether that is more than may be used.
    """

    phase: Phase
    start_s: float
    end_s: float
    low_bytes: int
    expected_bytes: int
    high_bytes: int
    over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the graph draws of a plan besides the curves.

    Attributes:
        lane: The memory the plan is about.
        behind: On the monotonic clock: what the curves run over.
        ahead: From now on; not drawn where the curves' own axis goes on into the future.
        ahead_s: How long what is ahead takes from its beginning, also when part of it has passed.
        budget_bytes: The limit our engine keeps to, where the curves would reach it.
        fits: Whether it keeps to it.
    """

    lane: Lane
    behind: tuple[ForecastBox, ...]
    ahead: tuple[ForecastBox, ...]
    ahead_s: float
    budget_bytes: int
    fits: bool

    @property
    def end_s(self) -> float | None:
        """When the last box behind the curves ends, on the monotonic clock."""
        return self.behind[-1].end_s if self.behind else None

    @property
    def high_bytes(self) -> int:
        """The most that is expected."""
        return max((box.high_bytes for box in (*self.behind, *self.ahead)), default=0)


def boxes_of(
    phases: Sequence[PhasePlan], *, budget_bytes: int, start_s: float = 0.0
) -> tuple[ForecastBox, ...]:
    """Phases one after the other."""
    made: list[ForecastBox] = []
    for phase in phases:
        made.append(box_of(phase, budget_bytes=budget_bytes, start_s=start_s))
        start_s = made[-1].end_s
    return tuple(made)


def box_of(phase: PhasePlan, *, budget_bytes: int, start_s: float) -> ForecastBox:
    """One phase from this time on."""
    peak_bytes = phase.peak_vram_bytes
    return ForecastBox(
        phase=phase.phase,
        start_s=start_s,
        end_s=start_s + max(0.0, phase.seconds),
        low_bytes=max(0, peak_bytes - phase.uncertainty_bytes),
        expected_bytes=peak_bytes,
        high_bytes=phase.needed_bytes,
        over=peak_bytes > budget_bytes,
    )


def lifted(boxes: tuple[ForecastBox, ...], by_bytes: int) -> tuple[ForecastBox, ...]:
    """The same boxes, so much higher."""
    if by_bytes == 0:
        return boxes
    return tuple(
        replace(
            box,
            low_bytes=box.low_bytes + by_bytes,
            expected_bytes=box.expected_bytes + by_bytes,
            high_bytes=box.high_bytes + by_bytes,
        )
        for box in boxes
    )


def plan_fits(plan: GenerationPlan) -> bool:
    """Whether a plan can be carried out at all."""
    return plan.verdict is not Verdict.DOES_NOT_FIT
