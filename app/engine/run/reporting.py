"""The report of a run: its plan beside what was measured."""

from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.run_report import PhaseReport, RunReport, phase_report
from app.engine.run.phases import PhaseLog
from app.engine.run.plan_in_force import PlanInForce


def phase_reports(force: PlanInForce, phases: PhaseLog) -> tuple[PhaseReport, ...]:
    """Each phase of the plan in force, with what is measured of it so far."""
    return tuple(
        phase_report(one, phases.measured.get(one.phase), of_process=force.problem.on_cpu)
        for one in force.plan.phases
    )


def run_report(force: PlanInForce, phases: PhaseLog, *, resumed_at: int) -> RunReport:
    """The whole run.

    Args:
        force: The plan at its end.
        phases: That were measured.
        resumed_at: Denoising steps that an earlier engine had done.
    """
    untouched: dict[Phase, MeasuredPhase] = {
        phase: found for phase, found in phases.measured.items() if phase not in force.touched
    }
    return RunReport(
        plan=force.plan,
        phases=phase_reports(force, phases),
        rungs=tuple(force.rungs),
        measured=MeasuredRun(phases=untouched, of_process=force.problem.on_cpu),
        resumed_at=resumed_at,
    )
