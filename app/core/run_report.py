"""A run after it ended: what was planned, what was measured, and which rungs were taken."""

from dataclasses import dataclass, field

from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.plan import GenerationPlan, PhasePlan, PlanChange, Rung
from app.core.streaming import StreamedPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRung:
    """A rung that was taken during the run; see `app.core.events.Downshifted`."""

    phase: Phase
    step: int
    rung: Rung
    before: str
    after: str
    reason: str
    foreseen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReport:
    """One phase, planned and measured.

    Attributes:
        phase: Which.
        planned_bytes: Expected peak of what `measured_bytes` measures: tensors on a GPU, the whole
            process on the CPU.
        measured_bytes: Peak on the device; None where it was not measured.
        planned_seconds: Expected, for all its parts together.
        measured_seconds: It took, all its parts together; None where it did not run.
        streamed: Weights that came in while it ran; None where none were to, and in reports of
            older versions.
    """

    phase: Phase
    planned_bytes: int
    measured_bytes: int | None = None
    planned_seconds: float = 0.0
    measured_seconds: float | None = None
    streamed: StreamedPhase | None = None

    @property
    def bytes_error(self) -> float | None:
        """Measured over planned bytes, less 1: 0.03 where 3 % more were needed than planned."""
        return _error(self.measured_bytes, self.planned_bytes)

    @property
    def seconds_error(self) -> float | None:
        """Measured over planned seconds, less 1."""
        return _error(self.measured_seconds, self.planned_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A whole run.

    Attributes:
        plan: In force at its end.
        phases: Planned and measured, in order.
        rungs: That were taken during the run, in order.
        measured: Of the phases that ran as the plan says, for the calibration.
        resumed_at: Denoising steps that an earlier engine had done; 0 for none.
    """

    plan: GenerationPlan
    phases: tuple[PhaseReport, ...]
    rungs: tuple[TakenRung, ...] = ()
    measured: MeasuredRun = field(default_factory=lambda: MeasuredRun(phases={}))
    resumed_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureReport:
    """What is left of a run's report in a picture's file.

    Attributes:
        verdict: Of the plan, such as "fits".
        changes: Rungs of the plan, those of the run included.
        phases: Planned and measured, in order, of those before saving.
        rungs: That were taken during the run, in order.
        resumed_at: As in `RunReport`; pictures do not tell it.
    """

    verdict: str
    changes: tuple[PlanChange, ...]
    phases: tuple[PhaseReport, ...]
    rungs: tuple[TakenRung, ...] = ()
    resumed_at: int = 0


AnyReport = RunReport | PictureReport


def phase_report(
    planned: PhasePlan,
    measured: MeasuredPhase | None,
    *,
    of_process: bool,
    idle_bytes: int = 0,
    streamed: StreamedPhase | None = None,
) -> PhaseReport:
    """A phase's plan beside what was measured of it.

    Args:
        planned: By the plan in force.
        measured: Or None where the phase did not run.
        of_process: Whether peaks are of the whole process, as on the CPU.
        idle_bytes: Held by that process before it had any model.
        streamed: Weights that came in while it ran.
    """
    tensors = planned.weights_bytes + planned.working_bytes
    return PhaseReport(
        phase=planned.phase,
        planned_bytes=planned.peak_vram_bytes + idle_bytes if of_process else tensors,
        measured_bytes=None if measured is None else measured.peak_bytes,
        planned_seconds=planned.seconds,
        measured_seconds=None if measured is None else measured.seconds,
        streamed=streamed,
    )


def _error(measured: float | None, planned: float) -> float | None:
    return None if measured is None or planned <= 0 else measured / planned - 1
