"""Reports made by hand."""

from typing import Any

from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase
from app.core.plan import Rung
from app.core.run_report import RunReport, TakenRung, phase_report
from tests.fakes.plans import gib, plan

MEASURED = {
    Phase.LOAD: MeasuredPhase(seconds=5.0, peak_bytes=gib(4.0)),
    Phase.ENCODE: MeasuredPhase(seconds=1.9, peak_bytes=gib(7.7)),
    Phase.DENOISE: MeasuredPhase(seconds=26.4, peak_bytes=gib(8.549)),
    Phase.DECODE: MeasuredPhase(seconds=4.0, peak_bytes=None),
}


def report(**changes: Any) -> RunReport:
    """A run of the plan in `plans`; denoising took 3 % more memory and 10 % more time."""
    made = plan()
    phases = tuple(
        phase_report(one, MEASURED.get(one.phase), of_process=False) for one in made.phases
    )
    rung = TakenRung(
        phase=Phase.DECODE,
        step=4,
        rung=Rung.TILE,
        before="decode whole",
        after="decode in 512 px tiles",
        reason="Another program took 2.1 GB.",
        foreseen=True,
    )
    return RunReport(**{"plan": made, "phases": phases, "rungs": (rung,), **changes})
