"""What was learnt on one GPU with one driver and one torch: from plans, runs and calibrations."""

import math
from dataclasses import dataclass, field, replace

from app.core.jobs import Phase
from app.core.machine_speeds import MachineSpeeds
from app.core.measured_run import CalibrationKey, MeasuredPhase, MeasuredRun
from app.core.plan import GenerationPlan, PhasePlan
from app.core.profile import Calibration
from app.core.running_estimate import HIGHEST, WINDOW, added, middle, spread, upper

MIN_WORKING_BYTES = 64 << 20
"""Smaller ones say more about rounding and library workspaces than about the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Factors as plans had them that were made after so many runs."""

    runs: int
    bytes_factor: dict[Phase, float] = field(default_factory=dict[Phase, float])
    time_factor: dict[Phase, float] = field(default_factory=dict[Phase, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationEntry:
    """All about one key; ratios are natural logarithms, the oldest first."""

    key: CalibrationKey
    runs: int = 0
    speeds: MachineSpeeds | None = None
    bytes_ratios: dict[Phase, tuple[float, ...]] = field(
        default_factory=dict[Phase, tuple[float, ...]]
    )
    time_ratios: dict[Phase, tuple[float, ...]] = field(
        default_factory=dict[Phase, tuple[float, ...]]
    )
    published: tuple[Published, ...] = ()

    def after_run(self, plan: GenerationPlan, measured: MeasuredRun) -> "CalibrationEntry":
        """With what a run taught."""
        applied = self._applied(plan.measured_runs)
        bytes_ratios, time_ratios = dict(self.bytes_ratios), dict(self.time_ratios)
        for planned in plan.phases:
            phase = planned.phase
            found = measured.phases.get(phase)
            if found is None:
                continue
            # What loading needs is needed by few runs: those that fit previews to a model.
            learns = phase is not Phase.LOAD
            ratio = _bytes_ratio(planned, found, measured) if learns else None
            if ratio is not None:
                ratio *= applied.bytes_factor.get(phase, 1.0)
                bytes_ratios[phase] = added(bytes_ratios.get(phase, ()), ratio)
            ratio = _time_ratio(planned, found)
            if ratio is not None:
                ratio *= applied.time_factor.get(phase, 1.0)
                time_ratios[phase] = added(time_ratios.get(phase, ()), ratio)
        entry = replace(
            self, runs=self.runs + 1, bytes_ratios=bytes_ratios, time_ratios=time_ratios
        )
        return entry._with_published(self.published)

    def with_speeds(self, speeds: MachineSpeeds) -> "CalibrationEntry":
        """With what a calibration measured; times of runs are compared with it from now on."""
        # The old ratios were against other speeds, and so were the plans made until now.
        former = tuple(replace(one, time_factor={}) for one in self.published)
        return replace(self, speeds=speeds, time_ratios={})._with_published(former)

    def calibration(self, default: Calibration) -> Calibration:
        """What was measured, on top of what is taken to be so without measuring."""
        speeds = self.speeds
        found = replace(
            default,
            runs=self.runs,
            bytes_factor=_upper_of(self.bytes_ratios),
            time_factor=_middle_of(self.time_ratios),
            spread=_spread_of(self.bytes_ratios, unmeasured=default.spread),
            time_spread=_spread_of(self.time_ratios, unmeasured=default.time_spread),
        )
        if speeds is None:
            return found
        copied = speeds.pinned_bytes_per_s or speeds.pageable_bytes_per_s
        return replace(
            found,
            compute_flops=speeds.compute_flops,
            copy_bytes_per_s=copied or default.copy_bytes_per_s,
            read_bytes_per_s=speeds.read_bytes_per_s or default.read_bytes_per_s,
            context_bytes=speeds.context_bytes or default.context_bytes,
        )

    def plausible(self) -> bool:
        """Whether it can be reckoned with, whoever wrote the file it comes from."""
        ratios = (*self.bytes_ratios.values(), *self.time_ratios.values())
        factors = [
            factor
            for one in self.published
            for factor in (*one.bytes_factor.values(), *one.time_factor.values())
        ]
        numbers: list[float] = []
        if self.speeds is not None:
            speeds = self.speeds
            optional = (
                speeds.pinned_bytes_per_s,
                speeds.pageable_bytes_per_s,
                speeds.read_bytes_per_s,
                speeds.context_bytes,
            )
            numbers = [speeds.compute_flops, *(one for one in optional if one is not None)]
        return (
            self.runs >= 0
            and all(len(window) <= WINDOW for window in ratios)
            and all(abs(ratio) <= HIGHEST for window in ratios for ratio in window)
            and all(math.isfinite(number) and number > 0 for number in (*factors, *numbers))
        )

    def _applied(self, runs: int) -> Published:
        """The factors that a plan of those days was made with."""
        for one in reversed(self.published):
            if one.runs == runs:
                return one
        return Published(runs=runs)

    def _with_published(self, former: tuple[Published, ...]) -> "CalibrationEntry":
        published = Published(
            runs=self.runs,
            bytes_factor=_upper_of(self.bytes_ratios),
            time_factor=_middle_of(self.time_ratios),
        )
        others = tuple(one for one in former if one.runs != self.runs)
        return replace(self, published=(*others, published)[-WINDOW:])


def _bytes_ratio(planned: PhasePlan, found: MeasuredPhase, run: MeasuredRun) -> float | None:
    """Measured working memory over what the plan said; None where that says nothing."""
    if found.peak_bytes is None or planned.working_bytes < MIN_WORKING_BYTES:
        return None
    # Tensors are counted without the context and the allocator's reserve, a process with them.
    besides = planned.overhead_bytes + run.idle_bytes if run.of_process else 0
    working = found.peak_bytes - planned.weights_bytes - besides
    return working / planned.working_bytes if working > 0 else None


def _time_ratio(planned: PhasePlan, found: MeasuredPhase) -> float | None:
    if found.seconds is None or found.seconds <= 0 or planned.seconds <= 0:
        return None
    return found.seconds / planned.seconds


def _upper_of(ratios: dict[Phase, tuple[float, ...]]) -> dict[Phase, float]:
    return {phase: upper(found) for phase, found in ratios.items()}


def _middle_of(ratios: dict[Phase, tuple[float, ...]]) -> dict[Phase, float]:
    return {phase: middle(found) for phase, found in ratios.items()}


def _spread_of(ratios: dict[Phase, tuple[float, ...]], *, unmeasured: float) -> float:
    """The widest of the phases that were measured."""
    spreads = (spread(found, unmeasured=unmeasured) for found in ratios.values() if found)
    return max(spreads, default=unmeasured)
