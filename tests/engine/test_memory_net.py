"""Memory that runs out anywhere in the engine costs nothing, outside of what is repeated too."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from safetensors import SafetensorError

from app.core.events import (
    ImageDone,
    ImagesDeferred,
    JobFailed,
    JobFinished,
    Notice,
    RunResumed,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.engine import job_run
from app.engine.compute_device import CpuDevice
from app.engine.memory_net import MAX_BEGUN_AGAIN
from app.engine.receipts import Receipts
from app.engine.run import kept_latents, run
from app.engine.run.attempts import Attempts
from app.engine.run.images import RunImages
from app.engine.run.kept_latents import KeptLatents
from app.engine.run.model_shelf import ModelShelf
from app.engine.run.phases import PhaseLog
from app.engine.run.run import Run
from app.engine.save_guard import SaveGuard
from app.engine.simulated_story import Failure, Moment
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same, simulated, strict
from tests.fakes.memory_faults import Faults, Place, memory_runs_out
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import make_tiny_model

STEPS = 2
SAMPLES = 16
"""Places of a run at which memory runs out, spread over all that it calls."""
SAMPLES_OF_RECOVERY = 3
OUTSIDE_OF_THE_NET = ("job_run.py", "memory_net.py", "cancel.py", "relief.py", "compute_device.py")
"""What holds it cannot catch itself: the process ends, and the app runs the job in another."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_forecasts(monkeypatch.setattr)
    monkeypatch.setattr(kept_latents, "AT_RISK_S", 0.0)
    monkeypatch.setattr(kept_latents, "SLOW_DISK_FACTOR", 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein", tmp_path_factory.mktemp("klein"))


def job(model: Path, out: Path, **request: Any) -> Job:
    values = {"steps": STEPS, "guidance": 4.0, "seed": 7, **request}
    return strict(replace(make_job(model, out, **values), policy=POLICY))


def sample(places: dict[Place, None], count: int) -> list[Place]:
    """So many, evenly spread over what was called."""
    known = list(places)
    return [known[(2 * number + 1) * len(known) // (2 * count)] for number in range(count)]


def errors() -> Iterator[Callable[[], BaseException]]:
    return itertools.cycle([MemoryError, lambda: torch.OutOfMemoryError("CUDA out of memory")])


def test_memory_may_run_out_in_whatever_a_run_calls(model: Path, tmp_path: Path):
    out, keep = tmp_path / "out", tmp_path / "keep"
    asked = job(model, out, images=2)
    Runs(CpuDevice()).run(asked)  # Some is found out only once in a process.
    forget_what_was_made(out)
    runs = Runs(CpuDevice())
    with memory_runs_out(None) as whole:
        expected = pixels(runs.run(asked, keep_folder=keep))
    error = errors()
    for place in sample(whole.called, SAMPLES):
        if place.file in OUTSIDE_OF_THE_NET:
            continue
        forget_what_was_made(out)
        runs = Runs(CpuDevice())
        with memory_runs_out(place, next(error)) as faults:
            events = runs.run(asked, keep_folder=keep)
        assert faults.fired, place
        assert isinstance(events[-1], JobFinished), (place, events[-1])
        # On the CPU a batch may have been split, which costs a level at most.
        assert same(pixels(events), expected, levels=1), place
        assert len(list(out.iterdir())) == 2, place
        assert not list(keep.iterdir()), place


class FaultInRecovery:
    """Has memory run out within the first recovery of a run.

    Attributes:
        faults: What that recovery called.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        place: Place | None,
        error: Callable[[], BaseException] = MemoryError,
    ) -> None:
        self.faults: Faults | None = None
        recover = Attempts._recover

        def recover_once(attempts: Attempts, *args: Any, **named: Any) -> None:
            if self.faults is not None:
                recover(attempts, *args, **named)
                return
            with memory_runs_out(place, error) as self.faults:
                recover(attempts, *args, **named)

        monkeypatch.setattr(Attempts, "_recover", recover_once)


@pytest.mark.parametrize("phase", [Phase.ENCODE, Phase.DENOISE, Phase.DECODE])
def test_memory_may_run_out_in_whatever_a_recovery_calls(
    phase: Phase, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    step = 1 if phase is Phase.DENOISE else 0
    failure = Failure(at=Moment(phase=phase, step=step, operation=20))
    out, keep = tmp_path / "out", tmp_path / "keep"
    asked = job(model, out)
    with monkeypatch.context() as during:
        whole = FaultInRecovery(during, None)
        expected = pixels(Runs(simulated(failure)).run(asked, keep_folder=keep))
    assert whole.faults is not None
    error = errors()
    for place in sample(whole.faults.called, SAMPLES_OF_RECOVERY):
        forget_what_was_made(out)
        with monkeypatch.context() as during:
            fault = FaultInRecovery(during, place, next(error))
            events = Runs(simulated(failure)).run(asked, keep_folder=keep)
        assert fault.faults is not None
        assert fault.faults.fired, place
        assert isinstance(events[-1], JobFinished), (place, events[-1])
        assert same(pixels(events), expected), place
        assert not list(keep.iterdir()), place


def forget_what_was_made(out: Path) -> None:
    """Or the next run would not do all that the first did."""
    shutil.rmtree(app_paths().embeddings_folder, ignore_errors=True)
    shutil.rmtree(out)


class Fails:
    """Has a function run out of memory at some of its calls.

    Attributes:
        calls: So far.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: Any,
        name: str,
        *calls: int,
        ever: bool = False,
    ) -> None:
        self.calls = 0
        function = getattr(owner, name)

        def failing(*args: Any, **named: Any) -> Any:
            self.calls += 1
            if ever or self.calls in calls:
                raise MemoryError("injected")
            return function(*args, **named)

        monkeypatch.setattr(owner, name, failing)


def test_a_run_goes_on_from_its_last_step(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = pixels(Runs(CpuDevice()).run(job(model, tmp_path / "expected")))
    Fails(monkeypatch, PhaseLog, "_note", 2)  # After loading: the prompt is known by now.
    events = Runs(CpuDevice()).run(job(model, tmp_path / "out"), keep_folder=tmp_path / "keep")
    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), expected)
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2]
    (resumed,) = of_kind(events, RunResumed)
    assert resumed.step == STEPS
    (notice,) = of_kind(events, Notice)
    assert notice.code == "memory.repeated"
    assert notice.message == (
        "This computer's memory ran out while denoising. "
        "The run goes on from its last step with what is free now."
    )


def test_images_that_are_saved_are_not_made_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = job(model, tmp_path / "out", images=3)
    asked = replace(asked, limits=replace(asked.limits, max_images=1))
    Fails(monkeypatch, RunImages, "finish", 1, 2)
    events = Runs(CpuDevice()).run(asked, keep_folder=tmp_path / "keep")
    assert isinstance(events[-1], JobFinished)
    assert [one.index for one in of_kind(events, ImageDone)] == [0, 1, 2]
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2] * 3


def test_a_job_whose_images_are_saved_is_finished_whatever_happens_then(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reports = Fails(monkeypatch, run, "run_report", ever=True)
    Fails(monkeypatch, SaveGuard, "forget_receipts", ever=True)
    Fails(monkeypatch, job_run, "give_back_host_memory", ever=True)
    Fails(monkeypatch, job_run, "_log_run", ever=True)
    events = Runs(CpuDevice()).run(job(model, tmp_path / "out"), keep_folder=tmp_path / "keep")
    assert isinstance(events[-1], JobFinished)
    assert events[-1].report is None
    assert reports.calls == 1
    assert [one.index for one in of_kind(events, ImageDone)] == [0]
    assert not of_kind(events, Notice)


def test_a_run_without_a_report_leaves_nothing_on_the_device(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    device = simulated()
    runs = Runs(device)
    runs.run(job(model, tmp_path / "before"))
    assert device.weights_bytes()
    monkeypatch.setattr(run, "run_report", _no_memory)
    assert isinstance(runs.run(job(model, tmp_path / "out"))[-1], JobFinished)
    assert not device.weights_bytes()


def test_notes_of_what_was_saved_go_at_the_second_try(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    keep = tmp_path / "keep"
    Fails(monkeypatch, Receipts, "forget", 1)
    runs = Runs(CpuDevice())
    assert isinstance(runs.run(job(model, tmp_path / "out"), keep_folder=keep)[-1], JobFinished)
    assert not list(keep.iterdir())


def test_an_image_that_was_saved_but_not_told_is_told_then(model: Path, tmp_path: Path):
    runs = Runs(CpuDevice())
    left = 1

    def refuse(event: object) -> None:
        nonlocal left
        if isinstance(event, ImageDone) and left:
            left -= 1
            raise MemoryError

    runs.on_event = refuse
    asked = job(model, tmp_path / "out")
    events = runs.run(asked, keep_folder=tmp_path / "keep")
    assert isinstance(events[-1], JobFinished)
    # The event that could not be told is in the list as well.
    first, second = of_kind(events, ImageDone)
    assert first.path == second.path
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_images_that_were_put_off_stay_put_off(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are another job by then."""
    asked = job(model, tmp_path / "out", images=3)
    asked = replace(
        asked,
        limits=replace(asked.limits, max_images=1),
        policy=replace(asked.policy, strict=False),
    )
    calls = 0
    forward = Flux2Transformer2DModel.forward

    def fails_from_the_second_image_on(network: Any, *args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > STEPS:
            raise torch.OutOfMemoryError("injected")
        return forward(network, *args, **named)

    monkeypatch.setattr(Flux2Transformer2DModel, "forward", fails_from_the_second_image_on)
    monkeypatch.setattr(run, "run_report", _no_memory)
    runs = Runs(CpuDevice())
    events = runs.run(asked, keep_folder=tmp_path / "keep")
    assert isinstance(events[-1], JobFinished), events[-1]
    (deferred,) = of_kind(events, ImagesDeferred)
    assert deferred.first_index == 1
    assert [one.index for one in of_kind(events, ImageDone)] == [0]


def _no_memory(*_args: object, **_named: object) -> None:
    raise MemoryError


def test_what_never_goes_on_is_told_as_memory(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs = Runs(CpuDevice())
    with monkeypatch.context() as during:
        restores = Fails(during, KeptLatents, "restore", ever=True)
        events = runs.run(job(model, tmp_path / "out"), keep_folder=tmp_path / "keep")
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.out_of_memory"
    assert failed.error.message.startswith(
        "This computer's memory ran out while the prompt was encoded"
    )
    assert restores.calls == 1 + MAX_BEGUN_AGAIN
    assert isinstance(runs.run(job(model, tmp_path / "out"))[-1], JobFinished)


@pytest.mark.parametrize("owner", [ModelShelf, Run])
def test_cleaning_up_is_tried_twice_and_ends_the_process_then(
    owner: type, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "evict" if owner is ModelShelf else "stop"
    asked, keep = job(model, tmp_path / "out"), tmp_path / "keep"
    expected = pixels(Runs(CpuDevice()).run(job(model, tmp_path / "expected")))
    with monkeypatch.context() as during:
        Fails(during, PhaseLog, "_note", 3)
        clean_ups = Fails(during, owner, name, 1)
        assert same(pixels(Runs(CpuDevice()).run(asked, keep_folder=keep)), expected)
        assert clean_ups.calls == 2
    with monkeypatch.context() as during:
        Fails(during, PhaseLog, "_note", 3)
        Fails(during, owner, name, 1, 2)
        # The worker has no handler for this: the app sees the process end, and begins another.
        with pytest.raises(MemoryError):
            Runs(CpuDevice()).run(asked, keep_folder=keep)
    assert same(pixels(Runs(CpuDevice()).run(asked, keep_folder=keep)), expected)


def test_errors_of_other_kinds_are_not_repeated(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")

    def broken(*_args: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(RunImages, "finish", broken)
    events = Runs(CpuDevice()).run(job(model, tmp_path / "out", images=1))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "unexpected"
    assert not of_kind(events, Notice)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        SafetensorError("I/O error: Cannot allocate memory (os error 12)"),
        OSError(28),
    ],
    ids=["memory", "safetensors", "disk"],
)
def test_latents_that_cannot_be_kept_cost_only_the_keeping(
    error: Exception, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = pixels(Runs(CpuDevice()).run(job(model, tmp_path / "expected", images=2)))
    asked = job(model, tmp_path / "out", images=2)
    asked = replace(asked, limits=replace(asked.limits, max_images=1))
    tried = 0

    def refuse(*_args: object) -> bytes:
        nonlocal tried
        tried += 1
        raise error

    monkeypatch.setattr(kept_latents, "save", refuse)
    events = Runs(CpuDevice()).run(asked, keep_folder=tmp_path / "keep")
    assert tried == 2 * STEPS
    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), expected, levels=1)
    # It was not made up for by a repetition.
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2] * 2
    assert not of_kind(events, Notice)
    assert not list((tmp_path / "keep").iterdir())
