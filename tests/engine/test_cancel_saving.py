"""Taking a job back while its pictures are being saved."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.core.events import ImageDone, JobCancelled, JobFinished, PhaseStarted, StepDone
from app.core.jobs import Job, Phase
from app.core.preset import PresetLimits
from app.engine.compute_device import CpuDevice
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same

pytestmark = pytest.mark.usefixtures("quick_forecasts")


def job(model: Path, out: Path) -> Job:
    made = make_job(model, out, images=4, steps=2, seed=7)
    return replace(made, policy=POLICY, previews=False)


@pytest.mark.parametrize("saved", [1, 2, 3])
def test_cancelling_is_answered_between_two_pictures(saved: int, model: Path, tmp_path: Path):
    runs = Runs(CpuDevice())
    asked_at: list[int] = []

    def cancel(event: object) -> None:
        if len(of_kind(runs.events, ImageDone)) == saved and not asked_at:
            asked_at.append(len(runs.events))
            runs.flag.set()

    runs.on_event = cancel
    events = runs.run(job(model, tmp_path), keep_folder=tmp_path / "runs")

    assert isinstance(events[-1], JobCancelled)
    assert [one.phase for one in of_kind(events, PhaseStarted)][-1] is Phase.SAVE
    # The very next thing that is told is the end; what is saved stays.
    assert asked_at == [len(events) - 1]
    assert [one.index for one in of_kind(events, ImageDone)] == list(range(saved))
    assert len(list(tmp_path.glob("*.png"))) == saved


@pytest.mark.parametrize(
    ("saved", "later"), [((), [3, 2, 1, 0]), ((0, 1, 2), [0]), ((1,), [2, 1, 0]), ((3,), [2, 1, 0])]
)
def test_parts_that_are_told_to_come_do_come(
    saved: tuple[int, ...], later: list[int], model: Path, tmp_path: Path
):
    asked = replace(job(model, tmp_path), saved=saved, limits=PresetLimits(max_images=1))
    events = Runs(CpuDevice()).run(asked)
    assert isinstance(events[-1], JobFinished)
    for phase in (Phase.DENOISE, Phase.DECODE, Phase.SAVE):
        told = [one.parts_later for one in of_kind(events, PhaseStarted) if one.phase is phase]
        assert told == later


def test_a_job_that_is_to_go_on_saves_the_other_pictures_later(model: Path, tmp_path: Path):
    whole = pixels(Runs(CpuDevice()).run(job(model, tmp_path / "whole")))
    runs = Runs(CpuDevice())

    def cancel(event: object) -> None:
        if isinstance(event, ImageDone):
            runs.flag.set(goes_on=True)

    runs.on_event = cancel
    asked = job(model, tmp_path / "parts")
    first = runs.run(asked, keep_folder=tmp_path / "runs")
    assert isinstance(first[-1], JobCancelled)
    runs.on_event = lambda _event: None
    later = runs.run(replace(asked, saved=(0,)), keep_folder=tmp_path / "runs")
    assert isinstance(later[-1], JobFinished)
    assert not of_kind(later, StepDone)
    assert same({**pixels(first), **pixels(later)}, whole)
