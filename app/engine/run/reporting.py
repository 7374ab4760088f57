"""The report of a run: its plan beside what was measured."""

from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.run_report import PhaseReport, RunReport, phase_report
from app.engine.run.phases import PhaseLog
from app.engine.run.plan_in_force import PlanInForce
from app.engine.run.stream_log import StreamLog


def phase_reports(
    force: PlanInForce, phases: PhaseLog, streams: StreamLog, *, idle_bytes: int
) -> tuple[PhaseReport, ...]:
    """Each phase as it was planned when it ran, with what is measured of it so far.

    Args:
        force: The plan.
        phases: That were measured.
        streams: Weights that came in meanwhile.
        idle_bytes: Held by this process before it had any model.
    """
    return tuple(
        phase_report(
            force.ran_by.get(one.phase, one),
            phases.measured.get(one.phase),
            of_process=force.problem.on_cpu,
            idle_bytes=idle_bytes,
            streamed=streams.phases.get(one.phase),
        )
        for one in force.plan.phases
    )


def run_report(
    force: PlanInForce,
    phases: PhaseLog,
    streams: StreamLog,
    *,
    idle_bytes: int,
    resumed_at: int,
) -> RunReport:
    """The whole run.

    Args:
        force: The plan at its end.
        phases: That were measured.
        streams: Weights that came in meanwhile.
        idle_bytes: Held by this process before it had any model.
        resumed_at: Denoising steps that an earlier engine had done.
    """
    as_planned: dict[Phase, MeasuredPhase] = {
        phase: found
        for phase, found in phases.measured.items()
        if phase not in force.touched and force.ran_by.get(phase) == force.plan.phase(phase)
    }
    on_cpu = force.problem.on_cpu
    return RunReport(
        plan=force.plan,
        phases=phase_reports(force, phases, streams, idle_bytes=idle_bytes),
        rungs=tuple(force.rungs),
        measured=MeasuredRun(
            phases=as_planned, of_process=on_cpu, idle_bytes=idle_bytes if on_cpu else 0
        ),
        resumed_at=resumed_at,
    )
