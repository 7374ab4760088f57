"""How long the real engine takes from the wish for less memory to having less, counted in steps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import Downshifted, JobFinished, PhaseStarted, PlanMade, StepDone
from app.core.jobs import Phase
from app.core.paths import app_paths
from app.engine.cancel import CancelFlag
from app.engine.compute_device import real_device
from app.engine.job_run import JobRunner
from app.engine.protocol import RelieveJob, RunJob
from app.engine.relief import ReliefRequests
from app.engine.save_guard import SaveGuard
from tests.engine_process import EngineProcess, make_job

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parents[2] / "resources" / "models" / "demo"
"""Its coefficients ship, so that nothing has to be measured before a run."""
IMAGES = 2
STEPS = 3
REASON = "Another program took 2.1 GiB of memory."


class Asking:
    """Takes a run's events and asks for less at one of them.

    Attributes:
        events: All, in order.
        asked_after: How many there were when less was asked for.
    """

    def __init__(self, relief: ReliefRequests, *, phase: Phase, step: int) -> None:
        self.events: list[Any] = []
        self.asked_after: int | None = None
        self._relief = relief
        self._phase = phase
        self._step = step
        self._needed_bytes = 0

    def __call__(self, event: object) -> None:
        self.events.append(event)
        if isinstance(event, PlanMade):
            denoise = event.plan.phase(Phase.DENOISE)
            self._needed_bytes = denoise.working_bytes
        if self.asked_after is None and self._is_the_moment(event):
            self.asked_after = len(self.events)
            self._relief.ask(self._needed_bytes // 4 or 1, 0, REASON)

    def _is_the_moment(self, event: object) -> bool:
        if self._step:
            return isinstance(event, StepDone) and event.step == self._step
        return isinstance(event, PhaseStarted) and event.phase is self._phase


class Bench:
    """One runner for all tests: it keeps the model from job to job."""

    def __init__(self) -> None:
        self._listener: Callable[[Any], None] = print
        self._runner = JobRunner(
            device=real_device(torch.device("cpu")),
            send=lambda event: self._listener(event),
            guard=SaveGuard(),
            paths=app_paths(),
        )

    def run(self, out: Path, *, phase: Phase, step: int) -> Asking:
        relief = ReliefRequests()
        asking = Asking(relief, phase=phase, step=step)
        self._listener = asking
        job = make_job(DEMO, out, images=IMAGES, steps=STEPS)
        self._runner.run(replace(job, previews=False), CancelFlag(), relief)
        return asking


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.LOAD, 0),
        (Phase.ENCODE, 0),
        (Phase.DENOISE, 0),
        *((Phase.DENOISE, step) for step in range(1, STEPS + 1)),
    ],
)
def test_relief_takes_a_step_and_a_phase_boundary_at_most(
    bench: Bench, tmp_path: Path, phase: Phase, step: int
) -> None:
    asking = bench.run(tmp_path / "out", phase=phase, step=step)
    assert isinstance(asking.events[-1], JobFinished)
    assert len(list((tmp_path / "out").iterdir())) == IMAGES
    assert asking.asked_after is not None
    after = asking.events[asking.asked_after :]
    taken = next(
        number
        for number, event in enumerate(after)
        if isinstance(event, Downshifted) and event.foreseen
    )
    assert after[taken].reason == REASON
    until = after[:taken]
    assert sum(isinstance(event, StepDone) for event in until) <= 1
    assert sum(isinstance(event, PhaseStarted) for event in until) <= 1


def test_a_wish_for_less_reaches_the_run_through_the_engine_process(tmp_path: Path) -> None:
    job = make_job(DEMO, tmp_path, images=IMAGES, steps=STEPS)
    with EngineProcess() as engine:
        engine.wait_until_ready()
        engine.send(RelieveJob(job_id="unknown", device_bytes=1, host_bytes=0, reason="ignored"))
        engine.send(RunJob(job=job))
        engine.send(RelieveJob(job_id=job.id, device_bytes=1 << 20, host_bytes=0, reason=REASON))
        engine.wait_for(JobFinished)
    rungs = [event for event in engine.seen if isinstance(event, Downshifted)]
    assert [event.reason for event in rungs if event.foreseen] == [REASON]
