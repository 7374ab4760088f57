"""Whatever fails for lack of memory, at whatever point: the run ends with the right picture."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from app.core.events import (
    Downshifted,
    ImageDone,
    ImagesDeferred,
    JobFailed,
    JobFinished,
    Notice,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.plan import PICTURE_KEEPING, Rung, Verdict
from app.engine.compute_device import CpuDevice
from app.engine.simulated_story import Failure, FailureKind, Moment
from tests.engine_process import make_job
from tests.engine_runs import (
    POLICY,
    Runs,
    of_kind,
    pixels,
    record_of,
    report_of,
    same,
    simulated,
    strict,
)
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import Kind, make_tiny_model

KINDS: tuple[Kind, ...] = ("klein", "klein-base", "dev")
STEPS = 3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_forecasts(monkeypatch.setattr)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: make_tiny_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


Undisturbed = Callable[..., dict[int, np.ndarray]]


@pytest.fixture(scope="module")
def undisturbed(folders: dict[Kind, Path], tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What a run makes when nothing happens, on the simulated device or on the CPU.

    The CPU uses weights where they lie in the file, and its kernels round otherwise there.
    """
    made: dict[Any, dict[int, np.ndarray]] = {}
    engine: dict[tuple[Kind, bool], Runs] = {}

    def get(kind: Kind, *, on_cpu: bool = False, **request: Any) -> dict[int, np.ndarray]:
        key = (kind, on_cpu, *sorted(request.items()))
        if key not in made:
            device = CpuDevice() if on_cpu else simulated()
            runs = engine.setdefault((kind, on_cpu), Runs(device))
            made[key] = pixels(
                runs.run(job(folders[kind], tmp_path_factory.mktemp("out"), **request))
            )
        return made[key]

    return get


def job(model: Path, out: Path, **request: Any) -> Job:
    values = {"steps": STEPS, "guidance": 4.0, "seed": 7, **request}
    return replace(make_job(model, out, **values), policy=POLICY, previews=False)


POINTS = [
    *((Phase.LOAD, 0, operation) for operation in (0, 4)),
    *((Phase.ENCODE, 0, operation) for operation in (0, 70)),
    *((Phase.DENOISE, step, operation) for step in range(STEPS) for operation in (0, 60)),
    *((Phase.DECODE, 0, operation) for operation in (0, 50)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_one_failure_at_any_step_and_phase_costs_nothing(
    kind: Kind, folders: dict[Kind, Path], undisturbed: Undisturbed, tmp_path: Path
):
    kinds = itertools.cycle(FailureKind)
    for phase, step, operation in POINTS:
        moment = Moment(
            phase=None if phase is Phase.LOAD else phase, step=step, operation=operation
        )
        # Or the text encoder would not be needed a second time.
        shutil.rmtree(app_paths().embeddings_folder, ignore_errors=True)
        runs = Runs(simulated(Failure(at=moment, kind=next(kinds))))
        events = runs.run(strict(job(folders[kind], tmp_path)))

        assert isinstance(events[-1], JobFinished), (moment, events[-1])
        assert same(pixels(events), undisturbed(kind)), moment
        rungs = of_kind(events, Downshifted)
        assert rungs, moment
        assert {rung.phase for rung in rungs} == {phase}
        assert all(rung.rung in PICTURE_KEEPING and not rung.foreseen for rung in rungs)
        assert all("ran out" in rung.reason for rung in rungs)
        if phase is Phase.DENOISE:
            assert rungs[0].step == step
        # The step that failed was done again, and no other.
        assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3]
        # The last plan is the one that held.
        assert of_kind(events, PlanMade)[-1].plan == report_of(events).plan


@pytest.mark.parametrize("times", [2, 4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_repeated_failures_and_those_of_the_recovery_cost_nothing(
    kind: Kind, times: int, folders: dict[Kind, Path], undisturbed: Undisturbed, tmp_path: Path
):
    failures = [
        Failure(at=Moment(phase=Phase.ENCODE, operation=30), times=2),
        # Each attempt begins with weights on their way, which fail as well.
        Failure(at=Moment(phase=Phase.DENOISE, step=1, operation=20), times=times),
        Failure(at=Moment(phase=Phase.DENOISE, step=2, operation=10), kind=FailureKind.DRIVER),
        Failure(at=Moment(phase=Phase.DECODE, operation=5), times=3),
    ]
    events = Runs(simulated(*failures)).run(strict(job(folders[kind], tmp_path)))

    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), undisturbed(kind), levels=_TILE_LEVELS)
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3]


_TILE_LEVELS = 0
"""Of pictures of 64 px, which are never cut into tiles."""


def test_failures_at_every_step_of_a_batch(
    folders: dict[Kind, Path], undisturbed: Undisturbed, tmp_path: Path
):
    for step in range(STEPS):
        moment = Moment(phase=Phase.DENOISE, step=step, operation=40)
        # So often that weights have nothing more to give.
        events = Runs(simulated(Failure(at=moment, times=7))).run(
            strict(job(folders["klein"], tmp_path, images=4))
        )
        assert isinstance(events[-1], JobFinished)
        assert same(pixels(events), undisturbed("klein", images=4), levels=1)


class OutOf:
    """Makes transformers fail when they are called, for as long as a condition holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._calls = 0
        self._monkeypatch = monkeypatch

    def when(self, fails: Callable[[int, torch.Tensor], bool]) -> None:
        """Fail when `fails(call, latents)` is true; calls count from 1."""
        forward = Flux2Transformer2DModel.forward

        def failing(network: Any, *args: Any, **named: Any) -> Any:
            self._calls += 1
            if fails(self._calls, named["hidden_states"]):
                raise torch.OutOfMemoryError("injected")
            return forward(network, *args, **named)

        self._monkeypatch.setattr(Flux2Transformer2DModel, "forward", failing)


@pytest.fixture
def on_cpu(
    folders: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Runs, OutOf]:
    """An engine on the CPU with klein loaded, and a way to make its transformer fail."""
    runs = Runs(CpuDevice())
    runs.run(job(folders["klein"], tmp_path / "before"))
    return runs, OutOf(monkeypatch)


def test_on_the_cpu_a_batch_is_split_and_goes_on_where_it_was(
    on_cpu: tuple[Runs, OutOf],
    folders: dict[Kind, Path],
    undisturbed: Undisturbed,
    tmp_path: Path,
):
    expected = undisturbed("klein", on_cpu=True, images=4)
    runs, out_of = on_cpu
    out_of.when(lambda call, latents: call > 2 and len(latents) > 2)
    events = runs.run(job(folders["klein"], tmp_path, images=4))

    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), expected, levels=1)
    # The text encoder is the mapped file: to let go of it gives no RAM back, and is no rung.
    (rung,) = of_kind(events, Downshifted)
    assert (rung.rung, rung.phase, rung.step) == (Rung.SPLIT, Phase.DENOISE, 2)
    # Two steps were done together; each half did the third on its own.
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3, 3]
    notes = [one.note for one in of_kind(events, PhaseStarted) if one.phase is Phase.DECODE]
    assert notes == ["part 1 of 2", "part 2 of 2"]
    record = record_of(of_kind(events, ImageDone)[0])
    assert [one.rung for one in record.rungs] == [Rung.SPLIT]
    assert record.phases[2].phase is Phase.DENOISE


def test_on_the_cpu_one_image_is_tried_again_as_it_is(
    on_cpu: tuple[Runs, OutOf],
    folders: dict[Kind, Path],
    undisturbed: Undisturbed,
    tmp_path: Path,
):
    expected = undisturbed("klein", on_cpu=True)
    runs, out_of = on_cpu
    out_of.when(lambda call, _latents: call in {2, 4, 5, 6})
    events = runs.run(strict(job(folders["klein"], tmp_path)))
    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), expected)
    notices = of_kind(events, Notice)
    assert {notice.code for notice in notices} == {"memory.repeated"}
    assert len(notices) == 4


def test_what_always_fails_ends_and_says_what_would_help(
    on_cpu: tuple[Runs, OutOf],
    folders: dict[Kind, Path],
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    runs, _out_of = on_cpu
    with monkeypatch.context() as during:
        OutOf(during).when(lambda _call, _latents: True)
        failed = runs.run(strict(job(folders["klein"], tmp_path, images=3)))[-1]
        assert isinstance(failed, JobFailed)
        assert failed.error.code == "engine.out_of_memory"
        assert "strict mode forbids" in failed.error.message
        failed = runs.run(job(folders["klein"], tmp_path))[-1]
        assert isinstance(failed, JobFailed)
        assert "choose a smaller size" in failed.error.message
    events = runs.run(job(folders["klein"], tmp_path))
    assert same(pixels(events), undisturbed("klein", on_cpu=True))


def test_images_that_find_no_memory_are_put_off_once_others_are_made(
    on_cpu: tuple[Runs, OutOf],
    folders: dict[Kind, Path],
    undisturbed: Undisturbed,
    tmp_path: Path,
):
    whole = undisturbed("klein", on_cpu=True, images=3)
    runs, out_of = on_cpu
    done: list[ImageDone] = []
    runs.on_event = lambda event: done.append(event) if isinstance(event, ImageDone) else None
    out_of.when(lambda _call, latents: len(latents) > 1 or len(done) > 0)
    events = runs.run(job(folders["klein"], tmp_path, images=3))

    assert isinstance(events[-1], JobFinished)
    (deferred,) = of_kind(events, ImagesDeferred)
    assert (deferred.first_index, deferred.images) == (1, 2)
    assert [one.index for one in of_kind(events, ImageDone)] == [0]
    assert [one.rung for one in of_kind(events, Downshifted)] == [
        Rung.SPLIT,
        Rung.SPLIT,
        Rung.FEWER,
    ]
    assert report_of(events).plan.verdict is Verdict.SMALLER
    assert same(pixels(events), {0: whole[0]}, levels=1)


@pytest.mark.parametrize("upscale_back", [False, True])
def test_a_smaller_size_is_the_last_rung(
    upscale_back: bool, on_cpu: tuple[Runs, OutOf], folders: dict[Kind, Path], tmp_path: Path
):
    runs, out_of = on_cpu
    asked = job(folders["klein"], tmp_path, width_px=320, height_px=288)
    policy = replace(POLICY, upscale_back=upscale_back)
    limit = 320 * 288 // 256
    out_of.when(lambda call, latents: call > 1 and latents.shape[1] >= limit)
    events = runs.run(replace(asked, policy=policy))

    assert isinstance(events[-1], JobFinished)
    rung = of_kind(events, Downshifted)[-1]
    assert (rung.rung, rung.before) == (Rung.SMALLER, "320 × 288 px")
    plan = report_of(events).plan
    assert plan.width_px % 16 == plan.height_px % 16 == 0
    assert plan.width_px < 320
    # Of the ratio as near as multiples of 16 allow.
    assert abs(plan.width_px / plan.height_px - 320 / 288) < 0.04
    (image,) = of_kind(events, ImageDone)
    record = record_of(image)
    made = (plan.height_px, plan.width_px, 3)
    assert pixels(events)[0].shape == ((288, 320, 3) if upscale_back else made)
    assert record.resampled is upscale_back
    assert (record.made_width_px, record.made_height_px) == (plan.width_px, plan.height_px)
    assert record.request.width_px == 320
    # The first step of the large size is lost, nothing else.
    assert [one.step for one in of_kind(events, StepDone)] == [1, 1, 2, 3]


def test_the_decode_gives_way_by_itself(
    folders: dict[Kind, Path], tmp_path: Path, undisturbed: Undisturbed
):
    size = {"width_px": 544, "height_px": 320}
    expected = undisturbed("klein", **size)
    rungs: list[str] = []
    for times in (2, 4, 6, 9):
        failure = Failure(at=Moment(phase=Phase.DECODE, operation=3), times=times)
        events = Runs(simulated(failure)).run(strict(job(folders["klein"], tmp_path, **size)))
        assert isinstance(events[-1], JobFinished)
        assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3]
        rungs += [one.after for one in of_kind(events, Downshifted)]
        plan = report_of(events).plan
        if plan.tile_px is None:
            assert same(pixels(events), expected)
        else:
            assert pixels(events)[0].shape == expected[0].shape
    assert "decode one image at a time in tiles of 256 px" in rungs
    assert any(rung.endswith("on the CPU") for rung in rungs)


def test_a_request_that_cannot_fit_is_refused_before_anything_is_loaded(
    folders: dict[Kind, Path], tmp_path: Path
):
    events = Runs(simulated(capacity_bytes=100_000)).run(job(folders["klein"], tmp_path))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.does_not_fit"
    assert "MB are missing" in failed.error.message
    (made,) = of_kind(events, PlanMade)
    assert made.plan.verdict is Verdict.DOES_NOT_FIT
    assert not of_kind(events, StepDone)


def test_ram_that_is_short_gets_back_what_the_run_needs_no_more(
    folders: dict[Kind, Path], tmp_path: Path, undisturbed: Undisturbed
):
    runs = Runs(simulated())

    def ask(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            runs.relief.ask(0, 100, "RAM is short.")

    runs.on_event = ask
    events = runs.run(job(folders["klein"], tmp_path))
    assert same(pixels(events), undisturbed("klein"))
    (rung,) = of_kind(events, Downshifted)
    assert rung.foreseen
    assert rung.before == "the text encoder in RAM for the next prompt"
    # The next one reads it again.
    events = runs.run(job(folders["klein"], tmp_path, prompt="a blue square"))
    assert isinstance(events[-1], JobFinished)
    assert of_kind(events, PhaseStarted)[0].note == ""


def test_numbers_that_are_not_finite_are_named_with_their_phase(
    on_cpu: tuple[Runs, OutOf], folders: dict[Kind, Path], tmp_path: Path
):
    runs, _out_of = on_cpu
    model = runs.runner._shelf.model
    assert model is not None
    bias = model.pipeline.vae.decoder.conv_out.bias
    kept = bias.data.clone()
    with torch.no_grad():
        bias.fill_(float("nan"))
    failed = runs.run(job(folders["klein"], tmp_path, seed=11))[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.bad_image"
    assert "seed 11, decoding gave numbers that are not finite" in failed.error.message
    with torch.no_grad():
        bias.copy_(kept)
    # The transformer's own weights are the mapped file, which cannot be written to.
    layer = model.pipeline.transformer.proj_out
    broken = layer.weight.detach().clone()
    broken[0, 0] = float("nan")
    layer.weight = torch.nn.Parameter(broken, requires_grad=False)
    failed = runs.run(job(folders["klein"], tmp_path, seed=11))[-1]
    assert isinstance(failed, JobFailed)
    assert "seed 11, denoising gave" in failed.error.message
    model.embeddings.put("a red circle", torch.full((1, 4, 4), float("nan")))
    failed = runs.run(job(folders["klein"], tmp_path, seed=11))[-1]
    assert isinstance(failed, JobFailed)
    assert "text encoder" in failed.error.message
    assert not list(tmp_path.glob("*.png"))
