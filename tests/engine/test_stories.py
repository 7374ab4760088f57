"""Scripted stories on a simulated GPU: every one ends with all pictures, or with a clear refusal.

The demo stands for the released models, and some tens of MB for their GB.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.events import Downshifted, JobFailed, JobFinished, PlanMade, StepDone
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.plan import PICTURE_KEEPING, GenerationPlan, Rung, Verdict
from app.core.units import GIB, MIB
from app.engine.simulated_story import Moment, OtherUse
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same, simulated, strict

DEMO = Path(resource("models/demo"))
STEPS = 14
TFLOPS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """A run in which nothing happens: how it was planned, what it took, and what it made."""

    plan: GenerationPlan
    seconds: float
    pictures: dict[int, np.ndarray]


def job(out: Path, **request: Any) -> Job:
    values = {"width_px": 256, "height_px": 256, "images": 2, "steps": STEPS, "seed": 3, **request}
    return replace(make_job(DEMO, out, **values), policy=POLICY, previews=False)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Quiet]:
    made: dict[Any, Quiet] = {}

    def get(**request: Any) -> Quiet:
        key = tuple(sorted(request.items()))
        if key not in made:
            device = simulated(capacity_bytes=4 * GIB, tflops=TFLOPS)
            events = Runs(device).run(job(tmp_path_factory.mktemp("quiet"), **request))
            assert isinstance(events[-1], JobFinished)
            assert not of_kind(events, Downshifted)
            made[key] = Quiet(
                plan=of_kind(events, PlanMade)[0].plan,
                seconds=device.clock_s(),
                pictures=pixels(events),
            )
        return made[key]

    return get


def test_a_game_starts_at_step_12(quiet: Callable[..., Quiet], tmp_path: Path):
    game = OtherUse(at=Moment(phase=Phase.DENOISE, step=12), bytes=60 * MIB)
    events = Runs(simulated(capacity_bytes=80 * MIB, others=(game,))).run(strict(job(tmp_path)))
    assert isinstance(events[-1], JobFinished)
    rungs = of_kind(events, Downshifted)
    assert rungs[0].phase is Phase.DENOISE
    assert rungs[0].step == 12
    assert {rung.rung for rung in rungs} == {Rung.STREAM, Rung.SPLIT, Rung.TILE}
    # No step was done twice: 12 together, then each image the other two.
    assert [one.step for one in of_kind(events, StepDone)] == [*range(1, 13), 13, 14, 13, 14]
    assert same(pixels(events), quiet().pictures, levels=1)


def test_free_memory_falls_during_decode(quiet: Callable[..., Quiet], tmp_path: Path):
    taken = OtherUse(at=Moment(phase=Phase.DECODE, operation=20), bytes=58 * MIB)
    device = simulated(capacity_bytes=80 * MIB, others=(taken,))
    events = Runs(device).run(strict(job(tmp_path, steps=4)))
    assert isinstance(events[-1], JobFinished)
    rungs = of_kind(events, Downshifted)
    assert rungs
    assert {rung.phase for rung in rungs} == {Phase.DECODE}
    # Decode trouble never costs the denoise.
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3, 4]
    assert {rung.rung for rung in rungs} <= {Rung.STREAM, Rung.TILE}
    assert same(pixels(events), quiet(steps=4).pictures, levels=1)


@pytest.mark.parametrize("margin_bytes", [0, 2 * MIB])
def test_the_forecast_is_a_fifth_too_low(
    quiet: Callable[..., Quiet], tmp_path: Path, margin_bytes: int
):
    undisturbed = quiet(steps=4)
    planned = undisturbed.plan
    device = simulated(capacity_bytes=planned.peak_vram_bytes + margin_bytes, working_factor=1.25)
    events = Runs(device).run(strict(job(tmp_path, steps=4)))
    assert isinstance(events[-1], JobFinished)
    assert of_kind(events, Downshifted)
    assert all(rung.rung in PICTURE_KEEPING for rung in of_kind(events, Downshifted))
    assert same(pixels(events), undisturbed.pictures, levels=1)


def test_ten_images_while_another_program_leaks(quiet: Callable[..., Quiet], tmp_path: Path):
    request = {"images": 10, "width_px": 128, "height_px": 128, "steps": 2}
    undisturbed = quiet(**request)
    most_bytes, capacity_bytes = 50 * MIB, 64 * MIB
    leak = OtherUse(bytes=0, bytes_per_s=most_bytes / undisturbed.seconds)
    full = OtherUse(at=Moment(time_s=undisturbed.seconds), bytes=most_bytes)
    device = simulated(capacity_bytes=capacity_bytes, tflops=TFLOPS, others=(leak, full))
    events = Runs(device).run(strict(job(tmp_path, **request)))
    assert isinstance(events[-1], JobFinished)
    assert of_kind(events, Downshifted)
    assert same(pixels(events), undisturbed.pictures, levels=1)


def test_strict_mode_refuses_in_words_when_nothing_is_left(tmp_path: Path):
    all_of_it = OtherUse(at=Moment(phase=Phase.DENOISE, step=2), bytes=80 * MIB)
    device = simulated(capacity_bytes=80 * MIB, others=(all_of_it,))
    events = Runs(device).run(strict(job(tmp_path, steps=3)))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.out_of_memory"
    assert "memory ran out while denoising" in failed.error.message
    assert "MB are missing." in failed.error.message
    assert "Close other programs" in failed.error.message
    assert not pixels(events)
    assert device.allocated_bytes() < MIB


@pytest.mark.parametrize("left_bytes", [16 * MIB, 13 * MIB])
def test_a_game_that_leaves_room_for_small_pictures_only(left_bytes: int, tmp_path: Path):
    game = OtherUse(at=Moment(phase=Phase.DENOISE, step=2), bytes=80 * MIB - left_bytes)
    device = simulated(capacity_bytes=80 * MIB, others=(game,))
    events = Runs(device).run(job(tmp_path, width_px=448, height_px=448, steps=3))
    assert isinstance(events[-1], JobFinished)
    assert sorted(pixels(events)) == [0, 1]
    plan = of_kind(events, PlanMade)[-1].plan
    assert plan.verdict is Verdict.SMALLER
    assert 256 <= plan.width_px < 448
    assert of_kind(events, Downshifted)[-1].phase in (Phase.DENOISE, Phase.DECODE)


def test_what_finds_no_room_in_the_smallest_way_is_refused_with_what_is_missing(tmp_path: Path):
    game = OtherUse(at=Moment(phase=Phase.DENOISE, step=1), bytes=70 * MIB)
    device = simulated(capacity_bytes=80 * MIB, others=(game,))
    events = Runs(device).run(job(tmp_path, width_px=272, height_px=272, steps=2))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.out_of_memory"
    assert failed.error.message.startswith(
        "The GPU's memory ran out while denoising. Does not fit: "
    )
    assert "needed even as one small picture, 0.01 GB may be used" in failed.error.message
    assert "MB are missing." in failed.error.message
    assert device.allocated_bytes() < MIB


def test_a_job_after_the_trouble_is_planned_afresh(tmp_path: Path):
    game = OtherUse(at=Moment(phase=Phase.DENOISE, step=2), bytes=60 * MIB)
    over = OtherUse(at=Moment(phase=Phase.SAVE), bytes=0)
    runs = Runs(simulated(capacity_bytes=80 * MIB, others=(game, over)))
    first = runs.run(job(tmp_path, steps=3))
    assert of_kind(first, Downshifted)
    # The game is over: its moment is in a phase that computes nothing.
    with runs.device.watch(Phase.SAVE):
        pass
    second = runs.run(job(tmp_path, seed=4, steps=3))
    assert isinstance(second[-1], JobFinished)
    assert not of_kind(second, Downshifted)
    assert of_kind(second, PlanMade)[0].plan.batch == 2
