"""Memory stories to their end: the engine's own process, jobs that follow, reports, and plans held.

The demo is small, and so are the cards of these stories: MiB stand for GB. Each story ends with all
images, or with a clear refusal where strict mode allows nothing else.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.conductor.deferred import deferred_job
from app.core.events import (
    Downshifted,
    ImageDone,
    ImagesDeferred,
    JobFailed,
    JobFinished,
    PlanMade,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.plan import PICTURE_KEEPING, Placement, Verdict
from app.core.units import MIB
from app.engine.compute_device import CpuDevice
from app.engine.protocol import RelieveJob, RunJob
from app.engine.simulated_story import Moment, OtherUse
from tests.engine_process import EngineProcess, make_job
from tests.engine_runs import (
    ENDS,
    POLICY,
    Runs,
    of_kind,
    pixels,
    report_of,
    same,
    simulated,
    strict,
)

pytestmark = pytest.mark.slow
DEMO = resource("models/demo")
GAME = "A game took 18 MiB of the GPU's memory: denoising would be short."


@pytest.fixture(scope="module")
def on_cpu() -> Runs:
    return Runs(CpuDevice())


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Callable[..., EngineProcess]]:
    """Starts the engine's process on a simulated GPU."""
    started: list[EngineProcess] = []

    def start(**story: Any) -> EngineProcess:
        path = tmp_path / "story.json"
        path.write_text(json.dumps(story))
        engine = EngineProcess(device=f"sim:{path}")
        started.append(engine)
        engine.wait_until_ready()
        return engine

    yield start
    for engine in started:
        engine.__exit__()


def demo(out: Path, **request: Any) -> Job:
    values = {"width_px": 128, "height_px": 128, "steps": 4, "prompt": "a red circle", **request}
    return replace(make_job(DEMO, out, **values), policy=POLICY, previews=False)


def elsewhere(job: Job, out: Path) -> Job:
    return replace(job, output=replace(job.output, folder=str(out)))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one - other) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def test_a_game_is_seen_coming_and_weights_leave_in_time(
    on_cpu: Runs, told: Callable[..., EngineProcess], tmp_path: Path
):
    job = demo(tmp_path / "out", images=4, steps=16)
    engine = told(
        capacity_bytes=42 * MIB,
        others=[{"at": {"phase": "denoise", "step": 14}, "bytes": 18 * MIB}],
    )
    engine.send(RunJob(job=job))
    while engine.wait_for(StepDone).step < 4:
        pass
    wish = RelieveJob(job_id=job.id, device_bytes=16 * MIB, host_bytes=0, reason=GAME)
    engine.send(wish)
    engine.send(wish)
    engine.wait_for(*ENDS)
    events = engine.seen

    assert isinstance(events[-1], JobFinished)
    rungs = of_kind(events, Downshifted)
    assert all(rung.foreseen and rung.reason == GAME for rung in rungs)
    # Once, though it was told twice: nothing has changed between. Weights leave before the next
    # block, which is in the middle of a step or before it; the batch is split when the step ends.
    assert len({(rung.rung, rung.before, rung.after) for rung in rungs}) == len(rungs)
    steps = [rung.step for rung in rungs]
    assert max(steps) - min(steps) <= 1
    assert 2 <= len(of_kind(events, PlanMade)) <= 3
    expected = pixels(on_cpu.run(elsewhere(job, tmp_path / "expected")))
    assert same(pixels(events), expected, levels=1)


def test_memory_falls_during_the_decode(
    on_cpu: Runs, told: Callable[..., EngineProcess], tmp_path: Path
):
    job = demo(tmp_path / "out", width_px=320, height_px=320)
    engine = told(
        capacity_bytes=56 * MIB,
        others=[{"at": {"phase": "decode", "operation": 20}, "bytes": 14 * MIB}],
    )
    events = engine.run(job, *ENDS)

    assert isinstance(events[-1], JobFinished)
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3, 4]
    rungs = of_kind(events, Downshifted)
    assert {rung.phase for rung in rungs} == {Phase.DECODE}
    assert report_of(events).plan.tile_px == 256
    expected = pixels(on_cpu.run(elsewhere(job, tmp_path / "expected")))
    assert psnr(pixels(events)[0], expected[0]) > 40


def test_the_forecast_is_a_fifth_too_low(on_cpu: Runs, tmp_path: Path):
    job = demo(tmp_path / "out", images=4)
    events = Runs(simulated(capacity_bytes=41 * MIB, working_factor=1.25)).run(strict(job))

    assert of_kind(events, PlanMade)[0].plan.verdict is Verdict.FITS
    assert isinstance(events[-1], JobFinished)
    assert of_kind(events, Downshifted)
    report = report_of(events)
    errors = {one.phase: one.bytes_error for one in report.phases}
    # The report says so, and what ran by the plan in force at the end teaches the next one.
    assert 0.03 < (errors[Phase.ENCODE] or 0) < 0.1
    assert 0.15 < (errors[Phase.DECODE] or 0) < 0.26
    assert Phase.DECODE in report.measured.phases
    assert not {Phase.ENCODE, Phase.DENOISE} & report.measured.phases.keys()
    expected = pixels(on_cpu.run(elsewhere(job, tmp_path / "expected")))
    assert same(pixels(events), expected, levels=1)


CARD = {"capacity_bytes": 86 * MIB, "tflops": 1e-3}
"""Ten images at once fit on it, and take 67 of its seconds for two steps."""


def test_another_program_leaks_all_night_and_is_gone_in_the_morning(on_cpu: Runs, tmp_path: Path):
    job = demo(tmp_path / "out", images=10, steps=2)
    expected = pixels(on_cpu.run(elsewhere(job, tmp_path / "expected")))
    leak = OtherUse(bytes=0, bytes_per_s=71 * MIB / 60)
    full = OtherUse(at=Moment(time_s=60.0), bytes=71 * MIB)
    runs = Runs(simulated(**CARD, others=(leak, full)))
    made: dict[int, np.ndarray] = {}
    waiting: Job | None = job
    jobs = 0
    while waiting is not None:
        jobs += 1
        assert jobs < 10
        first = waiting.output.first_index
        events = runs.run(waiting)
        assert isinstance(events[-1], JobFinished), events[-1]
        made |= {first + index: picture for index, picture in pixels(events).items()}
        put_off = of_kind(events, ImagesDeferred)
        waiting = deferred_job(waiting, put_off[0]) if put_off else None
    assert same(made, expected, levels=1)


def test_strict_mode_makes_what_it_can_and_says_why_it_stops(tmp_path: Path):
    job = demo(tmp_path / "out", images=3, steps=2)
    job = replace(job, request=replace(job.request, width_px=384, height_px=384))
    # First enough is taken for one image after the other, then too much for any of this size.
    much = OtherUse(at=Moment(time_s=10.0), bytes=60 * MIB)
    more = OtherUse(at=Moment(time_s=45.0), bytes=71 * MIB)
    runs = Runs(simulated(**CARD, others=(much, more)))
    events = runs.run(strict(job))

    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.out_of_memory"
    assert "Strict mode forbids" in failed.error.message
    assert all(rung.rung in PICTURE_KEEPING for rung in of_kind(events, Downshifted))
    assert not of_kind(events, ImagesDeferred)
    # What was made before is there.
    assert 0 < len(of_kind(events, ImageDone)) < 3
    # The next one is refused before it begins, with what is missing.
    events = runs.run(replace(strict(job), id="next"))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.does_not_fit"
    assert "are missing" in failed.error.message
    assert not of_kind(events, StepDone)


@pytest.mark.parametrize("mib", [14, 20, 26, 40])
def test_what_the_plan_says_holds(on_cpu: Runs, tmp_path: Path, mib: int):
    # Loading is planned with what previews are fitted with.
    job = replace(demo(tmp_path / "out", images=3, steps=2), previews=True)
    runs = Runs(simulated(capacity_bytes=mib * MIB))
    events = runs.run(strict(job))
    plan = of_kind(events, PlanMade)[0].plan
    if plan.verdict is Verdict.DOES_NOT_FIT:
        assert isinstance(events[-1], JobFailed)
        return
    # Not one unplanned failure.
    assert isinstance(events[-1], JobFinished)
    assert not of_kind(events, Downshifted)
    # A plan counts two streamed blocks at once; today there is one at a time.
    streamed = any(one.placement is Placement.STREAMED for one in plan.components)
    least = -0.15 if streamed else -0.03
    for one in report_of(events).phases:
        assert least < (one.bytes_error or 0) < 0.01, one
    expected = pixels(on_cpu.run(elsewhere(job, tmp_path / "expected")))
    assert same(pixels(events), expected, levels=1)
