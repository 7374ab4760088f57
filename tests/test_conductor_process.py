"""The conductor with the real engine process on the demo: killed in every phase."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.conductor import Conductor
from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX
from app.core.events import (
    ConductorEvent,
    Converting,
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobFinished,
    PhaseStarted,
    QueueChanged,
    StepDone,
)
from app.core.jobs import Job, JobState, OutputTarget, Phase
from app.core.paths import app_paths, resource
from app.core.policy import MemoryPolicy, Precision, Precisions
from app.core.request import GenerationRequest
from app.engine import session
from app.engine.client import engine_starter

PATIENCE_S = 280.0
"""For anything to happen; only reached when a test fails."""
TRIES = 8
ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name != "posix", reason="kills by signal"),
]


@pytest.fixture(scope="module")
def model() -> Path:
    """Its coefficients ship: each new engine would have to measure another small model first."""
    return Path(resource("models/demo"))


class Studio:
    """A conductor in a thread, on real engines.

    Attributes:
        pictures: Where images go.
    """

    def __init__(self, model: Path, pictures: Path) -> None:
        self.pictures = pictures
        self._model = model
        self._events: queue.SimpleQueue[ConductorEvent] = queue.SimpleQueue()
        self._react: Callable[[ConductorEvent], None] = lambda event: None
        self._count = 0
        self.conductor = Conductor(
            start_engine=engine_starter(device="cpu"), store=None, emit=self._emit
        )
        self._thread = threading.Thread(target=self.conductor.run)
        self._thread.start()

    def _emit(self, event: ConductorEvent) -> None:
        # In the conductor's thread: no later than the engine's next few microseconds.
        self._react(event)
        self._events.put(event)

    def close(self) -> None:
        self.conductor.shutdown()
        self._thread.join()

    def run(
        self,
        *,
        react: Callable[[ConductorEvent], None] = lambda event: None,
        precision: Precision = Precision.AUTO,
    ) -> list[ConductorEvent]:
        """Run one job to its end; all events since the last one."""
        self._react = react
        self._count += 1
        job = Job(
            id=f"job-{self._count}",
            request=GenerationRequest(
                prompt="a red circle",
                model=str(self._model),
                width_px=256,
                height_px=256,
                steps=4,
                seed=self._count,
                images=2,
            ),
            model_folder=str(self._model),
            output=OutputTarget(folder=str(self.pictures), name_template="{seed}"),
            policy=MemoryPolicy(
                precisions=Precisions(text_encoder=precision, transformer=precision)
            ),
        )
        self.conductor.submit(job)
        seen: list[ConductorEvent] = []
        while True:
            event = self._events.get(timeout=PATIENCE_S)
            seen.append(event)
            if isinstance(event, QueueChanged) and any(
                one.id == job.id and one.state not in (JobState.QUEUED, JobState.RUNNING)
                for one in event.jobs
            ):
                return seen


@pytest.fixture
def studio(model: Path, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(model, tmp_path / "pictures")
    yield studio
    studio.close()


class Killer:
    """Kills the engine once, when the job reaches a phase."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._pid: int | None = None
        self._done = False

    def __call__(self, event: ConductorEvent) -> None:
        if isinstance(event, EngineStateChanged):
            self._pid = event.pid
        if self._done or self._pid is None:
            return
        if isinstance(event, PhaseStarted) and event.phase is self._phase:
            self._done = True
            os.kill(self._pid, signal.SIGKILL)


def states(events: list[ConductorEvent]) -> list[EngineState]:
    return [event.state for event in events if isinstance(event, EngineStateChanged)]


def test_the_engine_is_killed_in_each_phase_and_every_job_finishes(studio: Studio) -> None:
    for phase in Phase:
        # A small model may be done before the signal arrives; then the next job is killed.
        for _ in range(TRIES):
            events = studio.run(react=Killer(phase))
            assert any(isinstance(event, JobFinished) for event in events)
            images = [event for event in events if isinstance(event, ImageDone)]
            paths = [event.path for event in images]
            assert sorted({event.index for event in images}) == [0, 1]
            assert all(path is not None and Path(path).is_file() for path in paths)
            if EngineState.RESTARTING in states(events):
                break
        else:
            pytest.fail(f"the engine was never caught in {phase}")
    assert [path.name for path in studio.pictures.iterdir() if path.suffix != ".png"] == []


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, only an answer ends the wait for one."""
    monkeypatch.setattr(session, "CANCEL_DEADLINE_S", PATIENCE_S)


@pytest.mark.usefixtures("patient")
def test_cancel_is_answered_while_loading_and_denoising_and_the_process_stays(
    studio: Studio,
) -> None:
    def while_loading(event: ConductorEvent) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.LOAD:
            studio.conductor.cancel(event.job_id)

    def while_denoising(event: ConductorEvent) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            studio.conductor.cancel(event.job_id)

    events: list[ConductorEvent] = []
    for cancel in (while_loading, while_denoising):
        told = studio.run(react=cancel)
        assert any(isinstance(event, JobCancelled) for event in told)
        events += told
    told = studio.run()
    assert any(isinstance(event, JobFinished) for event in told)
    assert states([*events, *told]).count(EngineState.STARTING) == 1, "the same process"
    assert EngineState.STOPPED not in states([*events, *told])


@pytest.mark.usefixtures("patient")
def test_cancel_while_converting_is_answered_and_leaves_nothing_half_written(
    studio: Studio,
) -> None:
    cancelled: list[Converting] = []

    def cancel(event: ConductorEvent) -> None:
        if isinstance(event, Converting) and not cancelled:
            cancelled.append(event)
            studio.conductor.cancel(event.job_id)

    events = studio.run(react=cancel, precision=Precision.NF4)
    assert any(isinstance(event, JobCancelled) for event in events)
    assert cancelled
    assert half_converted() == []
    again = studio.run(precision=Precision.NF4)
    assert any(isinstance(event, JobFinished) for event in again)
    assert states([*events, *again]).count(EngineState.STARTING) == 1, "the same process"
    assert EngineState.STOPPED not in states([*events, *again])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that hangs does so for ever: why wait."""
    monkeypatch.setattr(session, "CANCEL_DEADLINE_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_an_engine_that_hangs_while_converting_is_ended_and_swept_after(studio: Studio) -> None:
    found: list[Path] = []
    pid: int | None = None

    def hang(event: ConductorEvent) -> None:
        nonlocal pid
        if isinstance(event, EngineStateChanged):
            pid = event.pid
        if isinstance(event, Converting) and not found and pid is not None:
            os.kill(pid, signal.SIGSTOP)
            found.extend(half_converted())
            studio.conductor.cancel(event.job_id)

    # A small model may be converted before the signal arrives: then it is done in other bits.
    for precision in (Precision.NF4, Precision.INT8, Precision.FP8):
        events = studio.run(react=hang, precision=precision)
        assert any(isinstance(event, JobCancelled) for event in events)
        assert EngineState.STOPPED in states(events)
        assert half_converted() == []
        if found:
            break
    else:
        pytest.fail("the engine was never caught while converting")
    assert any(isinstance(event, JobFinished) for event in studio.run())


def half_converted() -> list[Path]:
    return list(app_paths().converted_folder.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}"))


class Command:
    """`generate` in a process of its own, read line by line."""

    def __init__(self, model: Path, out: Path, *, steps: int) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "app", "generate", "--prompt", "a red circle", "--json"),
                *("--model", str(model), "--width", "256", "--height", "256"),
                *("--steps", str(steps), "--seed", "1", "--images", "8", "--out", str(out)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.engine: psutil.Process | None = None

    def read_until(self, **wanted: object) -> dict[str, object]:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, object] = json.loads(text)
            if line["event"] == "engine" and line["state"] == "starting":
                self.engine = psutil.Process(int(str(line["pid"])))
            if wanted.items() <= line.items():
                return line
        raise AssertionError(f"never told {wanted}: {self.process.communicate()[1]}")

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("phase", [Phase.DENOISE, Phase.SAVE])
def test_the_parent_is_killed_and_the_engine_ends_without_half_a_file(
    model: Path, tmp_path: Path, phase: Phase
) -> None:
    out = tmp_path / "out"
    steps = 1000 if phase is Phase.DENOISE else 1
    with Command(model, out, steps=steps) as command:
        command.read_until(event="phase", phase=phase.value, state="started")
        command.process.kill()
        command.process.wait()
        assert command.engine is not None
        command.engine.wait(PATIENCE_S)
    left = list(out.iterdir()) if out.exists() else []
    assert [path.name for path in left if path.suffix != ".png"] == []
    if phase is Phase.DENOISE:
        assert left == []


def test_ctrl_c_ends_a_run_with_130_and_nothing_on_disk(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Command(model, out, steps=1000) as command:
        command.read_until(event="step", step=1)
        command.process.send_signal(signal.SIGINT)
        assert command.read_until(event="error")["code"] == "cancelled"
        assert command.process.wait(PATIENCE_S) == 130
        assert command.engine is not None
        command.engine.wait(PATIENCE_S)
    assert not out.exists() or list(out.iterdir()) == []
