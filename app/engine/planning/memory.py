"""What a phase needs of the device: weights and tensors, and what the dry run cannot see."""

import math

from app.core.jobs import Phase
from app.core.plan import PhasePlan
from app.core.profile import Calibration
from app.engine.planning.problem import PlanProblem

MARGIN_LEFT_SHARE = 1 / 3
"""What is left of the spread's margin after many measured runs."""


def working_bytes(problem: PlanProblem, phase: Phase, forecast_bytes: int) -> int:
    """A phase's working memory, corrected by what was measured here."""
    factor = problem.device.calibration.bytes_factor.get(phase, 1.0)
    return math.ceil(forecast_bytes * factor)


def overhead_bytes(problem: PlanProblem, working: int) -> int:
    """What is on the device besides: context, workspace, and what the allocator keeps back."""
    calibration = problem.device.calibration
    reserve = calibration.reserve_bytes + math.ceil(calibration.reserve_share * working)
    return calibration.context_bytes + calibration.workspace_bytes + reserve


def uncertainty_bytes(problem: PlanProblem, working: int, overhead: int) -> int:
    """By how much the peak may be off; the weights are known to the byte."""
    return math.ceil(margin_share(problem.device.calibration) * (working + overhead))


def margin_share(calibration: Calibration) -> float:
    """The spread to count on: all of it where nothing was measured, less with each run."""
    shrinking = (1 - MARGIN_LEFT_SHARE) / (1 + calibration.runs)
    return calibration.spread * (MARGIN_LEFT_SHARE + shrinking)


def needed_bytes(problem: PlanProblem, phase: Phase, weights: int, forecast_bytes: int) -> int:
    """Peak and uncertainty: what must be free for a phase.

    Args:
        problem: What is planned.
        phase: Which.
        weights: On the device, in bytes.
        forecast_bytes: Working memory as the coefficients say.
    """
    working = working_bytes(problem, phase, forecast_bytes)
    overhead = overhead_bytes(problem, working)
    return weights + working + overhead + uncertainty_bytes(problem, working, overhead)


def weights_room(problem: PlanProblem, phase: Phase, forecast_bytes: int) -> int:
    """The most weights that a phase may have on the device; negative where none fit.

    Args:
        problem: What is planned.
        phase: Which.
        forecast_bytes: Working memory as the coefficients say.
    """
    return problem.budget_bytes - needed_bytes(problem, phase, 0, forecast_bytes)


def phase_plan(
    problem: PlanProblem,
    phase: Phase,
    *,
    weights: int,
    forecast_bytes: int,
    seconds: float,
    waiting_seconds: float = 0.0,
) -> PhasePlan:
    """The same with its parts told apart, and with time."""
    working = working_bytes(problem, phase, forecast_bytes)
    overhead = overhead_bytes(problem, working)
    spread = 1 + problem.device.calibration.time_spread
    return PhasePlan(
        phase=phase,
        weights_bytes=weights,
        working_bytes=working,
        overhead_bytes=overhead,
        uncertainty_bytes=uncertainty_bytes(problem, working, overhead),
        seconds=seconds,
        seconds_low=seconds / spread,
        seconds_high=seconds * spread,
        waiting_seconds=waiting_seconds,
    )
