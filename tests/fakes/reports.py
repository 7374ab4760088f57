"""Reports made by hand."""

from dataclasses import replace
from typing import Any

from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase
from app.core.plan import Rung
from app.core.run_report import RunReport, TakenRung, phase_report
from app.core.streaming import StreamedPhase, Streaming
from tests.fakes.plans import gib, plan

MEASURED = {
    Phase.LOAD: MeasuredPhase(seconds=5.0, peak_bytes=gib(4.0)),
    Phase.ENCODE: MeasuredPhase(seconds=1.9, peak_bytes=gib(7.7)),
    Phase.DENOISE: MeasuredPhase(seconds=26.4, peak_bytes=gib(8.549)),
    Phase.DECODE: MeasuredPhase(seconds=4.0, peak_bytes=None),
}


STREAMED = StreamedPhase(
    streaming=Streaming(streamed_bytes=gib(24), copying_s=2.0, waited_s=0.8),
    steps=3,
    planned_waiting_s=0.25,
    waited_s=0.3,
)


def streamed_report() -> RunReport:
    """The same, and while it denoised weights came in."""
    made = report()
    denoise = replace(made.phases[2], streamed=STREAMED)
    return replace(made, phases=(*made.phases[:2], denoise, *made.phases[3:]))


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
