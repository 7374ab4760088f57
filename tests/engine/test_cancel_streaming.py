"""Taking a job back while weights stream: the answer waits for no copy, and the memory follows."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.core.events import JobCancelled, JobFinished, StepDone
from app.core.jobs import Job
from app.core.policy import MemoryMode
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, pixels, same, simulated
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import make_tiny_model


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_forecasts(monkeypatch.setattr)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = make_job(make_tiny_model("klein", tmp_path / "model"), tmp_path, steps=3, seed=7)
    policy = replace(POLICY, mode=MemoryMode.MINIMAL)
    return replace(made, policy=policy, previews=False)


def test_a_job_is_answered_before_its_copies_have_ended(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slow enough that copies are always on their way.
    device = simulated(copy_bytes_per_s=1000.0)
    runs = Runs(device)
    told: list[str] = []
    settle, release = device.transfers.settle, device.release_cached

    def settled() -> None:
        told.append("settled")
        settle()

    def released() -> None:
        told.append("released")
        release()

    def take_back(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            runs.flag.set()
            told.clear()
        if isinstance(event, JobCancelled):
            told.append("answered")
            # Where copies are on their way to, nobody else can be.
            assert device.weights_bytes() > 0

    monkeypatch.setattr(device.transfers, "settle", settled)
    monkeypatch.setattr(device, "release_cached", released)
    runs.on_event = take_back
    assert isinstance(runs.run(job)[-1], JobCancelled)
    assert told == ["answered", "settled", "released"]
    assert device.weights_bytes() == 0
    runs.on_event = lambda _event: None
    again = runs.run(job)
    assert isinstance(again[-1], JobFinished)
    assert same(pixels(again), pixels(Runs(simulated()).run(job)))
