"""The engine as a real process: what it says, in which order, and how it ends."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app import __version__
from app.core.atomic import PARTIAL_PREFIX
from app.core.events import (
    EngineLog,
    EngineReady,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Loading,
    Notice,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Phase
from app.core.metadata import ImageRecord, record_from_json
from app.core.paths import resource
from app.core.request import MAX_SEED
from app.engine.protocol import (
    BROKEN_DEVICE_EXIT,
    PROTOCOL_VERSION,
    CancelJob,
    Hello,
    RunJob,
    Shutdown,
)
from tests.engine_process import EngineProcess, make_job
from tests.tiny_models import make_tiny_model

pytestmark = pytest.mark.slow
ENDS = (JobFinished, JobFailed, JobCancelled)
EXIT_LIMIT_S = 5.0
"""It takes milliseconds; a busy machine may take longer, an engine that hangs takes for ever."""


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein", tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module")
def klein_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein-base", tmp_path_factory.mktemp("klein-base"))


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """One process for all tests that leave it alive: starting takes seconds."""
    with EngineProcess() as process:
        process.wait_until_ready()
        yield process


@pytest.fixture
def mortal_engine() -> Iterator[EngineProcess]:
    """A process for one test that ends it."""
    with EngineProcess() as process:
        process.wait_until_ready()
        yield process


def record_of(path: str | None) -> ImageRecord:
    assert path is not None
    with Image.open(path) as image:
        image.load()
        record = record_from_json(image.info["headroom"])
    assert record is not None
    return record


def of_kind(messages: list[Any], kind: type[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def test_a_job_is_told_from_start_to_end(
    mortal_engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    engine = mortal_engine
    hello, ready = engine.seen[0], of_kind(engine.seen, EngineReady)[0]
    assert hello == Hello(protocol_version=PROTOCOL_VERSION, app_version=__version__)
    assert (ready.pid, ready.device) == (engine.process.pid, "cpu")
    assert ready.torch_version == torch.__version__

    job = make_job(klein, tmp_path, images=2, width_px=96, seed=MAX_SEED)
    messages = engine.run(job, *ENDS)

    expected: list[Any] = []
    for phase in Phase:
        expected.append((PhaseStarted, phase))
        if phase is Phase.LOAD:
            # Before it for a model that was measured before.
            expected.append((PlanMade, None))
        if phase is Phase.DENOISE:
            expected += [(StepDone, 1), (StepDone, 2)]
        if phase is Phase.SAVE:
            expected += [(ImageDone, 0), (ImageDone, 1)]
        expected.append((PhaseFinished, phase))
    told = [
        (type(message), getattr(message, "phase", getattr(message, "step", None)))
        if not isinstance(message, ImageDone)
        else (ImageDone, message.index)
        for message in messages
        # How far reading is, is told only where the computer is busy and it takes a while.
        if not isinstance(message, EngineLog | Loading)
    ]
    assert told == [*expected, (JobFinished, None)]
    assert all(message.job_id == "job" for message in messages if hasattr(message, "job_id"))
    notes = [started.note for started in of_kind(messages, PhaseStarted)]
    assert notes == ["measuring the model", "", "", "", ""]
    for step in of_kind(messages, StepDone):
        assert step.steps == 2
        assert step.seconds > 0
        assert step.memory.host_peak_rss_bytes >= step.memory.host_rss_bytes > 0
        assert (step.preview.width_px, step.preview.height_px) == (12, 8)
        assert len(step.preview.rgb) == 12 * 8 * 3
    assert [log.level for log in of_kind(messages, EngineLog)] == [20]

    first, second = of_kind(messages, ImageDone)
    assert (first.seed, second.seed) == (MAX_SEED, 0)
    assert first.path == str(tmp_path / f"{MAX_SEED}.png")
    record = record_of(second.path)
    # Pictures are given away, and say nothing of where things lie on this machine.
    assert record.request == replace(job.request, model=klein.name)
    assert str(klein.parent).encode() not in Path(second.path).read_bytes()
    assert (record.seed, record.index) == (0, 1)
    assert record.app_version == __version__
    assert set(record.seconds) == {"load", "encode", "denoise", "decode"}
    assert record.peak_host_bytes > 0


def test_second_job_loads_and_encodes_nothing_again(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    first = engine.run(make_job(klein, tmp_path, job_id="1"), *ENDS)
    second = engine.run(make_job(klein, tmp_path, job_id="2"), *ENDS)

    notes = {m.phase: m.note for m in of_kind(second, PhaseStarted)}
    assert notes == {
        Phase.LOAD: "already loaded",
        Phase.ENCODE: "cached",
        Phase.DENOISE: "",
        Phase.DECODE: "",
        Phase.SAVE: "",
    }
    # Same request, same picture; and nothing is replaced.
    paths = [of_kind(messages, ImageDone)[0].path for messages in (first, second)]
    assert paths == [str(tmp_path / "0.png"), str(tmp_path / "0-2.png")]
    with Image.open(paths[0]) as one, Image.open(paths[1]) as two:
        assert np.array_equal(np.asarray(one), np.asarray(two))


def test_another_model_takes_the_place_of_the_first(
    engine: EngineProcess, klein: Path, klein_base: Path, tmp_path: Path
) -> None:
    engine.run(make_job(klein, tmp_path), *ENDS)
    new = "measuring the model"
    for model, note in ((klein_base, new), (klein_base, "already loaded"), (klein, "")):
        messages = engine.run(make_job(model, tmp_path, guidance=3.0), *ENDS)
        assert of_kind(messages, PhaseStarted)[0].note == note
        assert isinstance(messages[-1], JobFinished)


def test_cancel_is_answered_within_a_step_and_the_model_stays(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    before = len(engine.seen)
    engine.send(RunJob(job=make_job(klein, tmp_path, steps=1000)))
    engine.wait_for(StepDone)
    engine.send(CancelJob(job_id="another"))
    engine.wait_for(StepDone)
    engine.send(CancelJob(job_id="job"))
    ended = engine.wait_for(*ENDS)

    assert ended == JobCancelled(job_id="job")
    assert len(of_kind(engine.seen[before:], StepDone)) < 1000
    assert not list(tmp_path.iterdir())
    messages = engine.run(make_job(klein, tmp_path, job_id="next"), *ENDS)
    assert of_kind(messages, PhaseStarted)[0].note == "already loaded"
    assert isinstance(messages[-1], JobFinished)


def test_a_job_that_waits_can_be_cancelled(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    engine.send(RunJob(job=make_job(klein, tmp_path, job_id="1", steps=1000)))
    engine.send(RunJob(job=make_job(klein, tmp_path, job_id="2")))
    engine.send(CancelJob(job_id="2"))
    engine.wait_for(StepDone)
    engine.send(CancelJob(job_id="1"))
    assert engine.wait_for(*ENDS) == JobCancelled(job_id="1")
    assert engine.wait_for(*ENDS) == JobCancelled(job_id="2")


def test_images_that_are_saved_are_not_saved_again(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    job = replace(make_job(klein, tmp_path, images=3), saved=(0, 2))
    messages = engine.run(job, *ENDS)
    assert [image.index for image in of_kind(messages, ImageDone)] == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_image_that_cannot_be_written_is_handed_back_whole(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    messages = engine.run(make_job(klein, occupied, images=2), *ENDS)
    images = of_kind(messages, ImageDone)
    assert [image.path for image in images] == [None, None]
    assert all(image.problem.code.startswith("output.") for image in images)
    assert all(image.png.startswith(b"\x89PNG") for image in images)
    assert isinstance(messages[-1], JobFinished)


def test_metadata_and_previews_can_be_left_out(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    job = make_job(klein, tmp_path)
    job = replace(job, previews=False, output=replace(job.output, metadata=False))
    messages = engine.run(job, *ENDS)
    assert all(step.preview is None for step in of_kind(messages, StepDone))
    with Image.open(of_kind(messages, ImageDone)[0].path) as image:
        image.load()
        assert image.info == {}


def test_prompt_that_is_too_long_gets_a_notice_and_a_picture(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    prompt = "word " * 110 + "and a red hat"
    messages = engine.run(make_job(klein, tmp_path, prompt=prompt), *ENDS)
    (notice,) = of_kind(messages, Notice)
    assert notice.code == "prompt.cut"
    assert "and a red hat" in notice.message
    assert isinstance(messages[-1], JobFinished)


def test_what_cannot_be_run_fails_with_its_code_and_the_engine_goes_on(
    engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    said = engine.errors
    pickled = make_tiny_model("klein", tmp_path / "pickled")
    weights = pickled / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({"x": torch.zeros(1)}, weights.with_suffix(".bin"))
    weights.unlink()
    truncated = make_tiny_model("klein", tmp_path / "truncated")
    weights = truncated / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for folder, code in (
        (tmp_path / "none", "model.missing"),
        (pickled, "model.pickle"),
        (truncated, "model.truncated"),
    ):
        messages = engine.run(make_job(folder, tmp_path / "out"), *ENDS)
        assert messages[-1].error.code == code
        assert messages[-1].error.traceback_text == ""
    messages = engine.run(make_job(klein, tmp_path / "out", steps=0), *ENDS)
    assert messages[-1].error.code == "request.steps"
    messages = engine.run(make_job(klein, tmp_path / "out"), *ENDS)
    assert isinstance(messages[-1], JobFinished)
    assert engine.errors == said


def test_damaged_weights_make_no_picture_and_say_so(engine: EngineProcess, tmp_path: Path) -> None:
    folder = make_tiny_model("klein", tmp_path / "model")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["proj_out.weight"].fill_(float("nan"))
    save_file(weights, file, metadata={"format": "pt"})

    messages = engine.run(make_job(folder, tmp_path / "out", seed=11), *ENDS)

    assert messages[-1].error.code == "engine.bad_image"
    assert "seed 11" in messages[-1].error.message
    assert not of_kind(messages, ImageDone)
    assert not (tmp_path / "out").exists()


_NOISY_ENGINE = """
import os, threading
import app.engine.worker as worker
quieten = worker.quieten
def shout():
    while True:
        print("stray from Python", flush=True)
        os.write(1, b"stray from C\\n")
def quieten_and_shout():
    # Not earlier: it would be at the cost of the import of torch.
    quieten()
    threading.Thread(target=shout, daemon=True).start()
worker.quieten = quieten_and_shout
worker.main([])
"""


def test_stray_output_does_not_come_between_messages(tmp_path: Path) -> None:
    with EngineProcess(command=(sys.executable, "-P", "-c", _NOISY_ENGINE)) as engine:
        engine.wait_until_ready()
        # The demo needs no measuring first.
        messages = engine.run(make_job(resource("models/demo"), tmp_path), *ENDS)
        assert isinstance(messages[-1], JobFinished)
        assert "stray from Python" in engine.errors
        assert "stray from C" in engine.errors


def test_end_of_stdin_ends_an_idle_engine() -> None:
    with EngineProcess(fresh=True) as engine:
        engine.wait_until_ready()
        engine.close_stdin()
        assert engine.process.wait(EXIT_LIMIT_S) == 0


@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.DENOISE])
def test_end_of_stdin_ends_a_busy_engine(
    mortal_engine: EngineProcess, klein: Path, tmp_path: Path, phase: Phase
) -> None:
    mortal_engine.send(RunJob(job=make_job(klein, tmp_path, steps=1000)))
    while mortal_engine.wait_for(PhaseStarted).phase is not phase:
        pass
    mortal_engine.close_stdin()
    assert mortal_engine.process.wait(EXIT_LIMIT_S) == 0
    assert not list(tmp_path.iterdir())


def test_end_of_stdin_ends_an_engine_that_still_imports_torch() -> None:
    with EngineProcess(fresh=True) as engine:
        engine.wait_for(Hello)
        engine.close_stdin()
        assert engine.process.wait(EXIT_LIMIT_S) == 0


def test_end_of_stdin_in_the_middle_of_a_command_ends_it_too() -> None:
    with EngineProcess(fresh=True) as engine:
        engine.wait_for(Hello)
        engine.send_bytes(b"\x40\x00\x00\x00\x92")
        engine.close_stdin()
        assert engine.process.wait(EXIT_LIMIT_S) == 0


@pytest.mark.parametrize(
    "frame", [b"\x03\x00\x00\x00abc", b"\xff\xff\xff\xff", b"\x0c\x00\x00\x00\x92\xa9Nonsense!\x80"]
)
def test_command_that_is_none_ends_the_engine_with_a_reason(frame: bytes) -> None:
    with EngineProcess(fresh=True) as engine:
        engine.wait_for(Hello)
        engine.send_bytes(frame)
        assert "a command cannot be understood" in engine.wait_for(EngineLog).message
        assert engine.process.wait(EXIT_LIMIT_S) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_killed_engine_leaves_nothing_unfinished(
    mortal_engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    mortal_engine.send(RunJob(job=make_job(klein, tmp_path, steps=1000)))
    mortal_engine.wait_for(StepDone)
    os.kill(mortal_engine.process.pid, signal.SIGKILL)
    mortal_engine.process.wait()
    while mortal_engine.next_message() is not None:
        pass
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(PARTIAL_PREFIX)]
    assert not list(tmp_path.iterdir())


def test_shutdown_cancels_and_ends(
    mortal_engine: EngineProcess, klein: Path, tmp_path: Path
) -> None:
    mortal_engine.send(RunJob(job=make_job(klein, tmp_path, steps=1000)))
    mortal_engine.wait_for(StepDone)
    mortal_engine.send(Shutdown())
    assert mortal_engine.wait_for(*ENDS) == JobCancelled(job_id="job")
    assert mortal_engine.next_message() is None
    mortal_engine.process.wait()
    assert mortal_engine.process.returncode == 0
    with contextlib.suppress(OSError):
        mortal_engine.close_stdin()


def test_device_that_is_not_there_is_a_clear_end() -> None:
    with EngineProcess(device="cuda:77") as engine:
        assert "cuda:77" in engine.wait_for(EngineLog).message
        assert engine.next_message() is None
        assert engine.process.wait() == 1
        assert "Traceback" not in engine.errors


_BROKEN_DEVICE = """
import atexit, sys, threading
import app.engine.worker as worker
def work(_self, _device):
    # As `DeviceBrokenError`, which brings torch.
    # A driver that never comes back from tidying up.
    atexit.register(threading.Event().wait)
    raise SystemExit("Fake GPU stopped working: CUDA error: unknown error")
worker.Worker.work = work
sys.exit(worker.main([]))
"""


def test_a_broken_device_is_a_clear_end() -> None:
    with EngineProcess(command=(sys.executable, "-P", "-c", _BROKEN_DEVICE)) as engine:
        said = engine.wait_for(EngineLog)
        assert (said.level, said.message[:24]) == (50, "Fake GPU stopped working")
        assert engine.next_message() is None
        assert engine.process.wait() == BROKEN_DEVICE_EXIT
        assert "Traceback" not in engine.errors
