"""The engine thread with a scripted engine: events arrive in the main thread, stop joins."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QObject, Slot
from pytestqt.qtbot import QtBot

from app.core.calibration_store import CalibrationStore
from app.core.events import (
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobFinished,
    PhaseStarted,
    PlanMade,
    QueueChanged,
)
from app.core.jobs import Job, JobState, OutputTarget, Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.request import GenerationRequest
from app.core.run_report import RunReport
from app.core.units import GIB
from app.engine.kept_runs import kept_file
from app.engine.protocol import RelieveJob
from app.ui.engine_thread import EngineThread
from tests.fakes.engine import MEMORY, FakeEngines, finish_at_once
from tests.fakes.hardware import device, sample
from tests.fakes.memory_story import make_plan


class Listener(QObject):
    """Keeps events and the threads they arrived in."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[object] = []
        self.threads: set[int] = set()

    @Slot(object)
    def take(self, event: object) -> None:
        self.events.append(event)
        self.threads.add(threading.get_ident())

    def seen(self, kind: type) -> bool:
        return any(isinstance(event, kind) for event in self.events)


def make_job(name: str) -> Job:
    return Job(
        id=name,
        request=GenerationRequest(prompt="a red circle", steps=2),
        model_folder="/models/demo",
        output=OutputTarget(folder="/nowhere/pictures"),
    )


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines(on_run=finish_at_once)


@pytest.fixture
def thread(qapp: object, engines: FakeEngines) -> Iterator[EngineThread]:
    thread = EngineThread(start_engine=engines, store=None)
    yield thread
    thread.stop()


@pytest.fixture
def listener(thread: EngineThread) -> Listener:
    listener = Listener()
    thread.event_received.connect(listener.take)
    return listener


def test_a_job_runs_and_its_events_arrive_in_the_main_thread(
    qtbot: QtBot, thread: EngineThread, listener: Listener
) -> None:
    thread.start()
    thread.submit(make_job("a"))
    qtbot.waitUntil(
        lambda: listener.events[-1:] == [EngineStateChanged(state=EngineState.READY, pid=1000)]
    )
    assert listener.seen(EngineReady)
    assert listener.seen(JobFinished)
    assert listener.threads == {threading.get_ident()}


def test_intents_reach_the_conductor(
    qtbot: QtBot, thread: EngineThread, listener: Listener
) -> None:
    thread.set_paused(True)
    for name in ("a", "b", "c", "d"):
        thread.submit(make_job(name))
    thread.submit(make_job("first"), front=True)
    thread.move("c", 1)
    thread.cancel("a")
    thread.remove("b")
    thread.start()

    def queue() -> list[tuple[str, JobState]]:
        last = [event for event in listener.events if isinstance(event, QueueChanged)][-1:]
        return [(job.id, job.state) for event in last for job in event.jobs]

    waiting = [("first", JobState.QUEUED), ("c", JobState.QUEUED), ("d", JobState.QUEUED)]
    qtbot.waitUntil(lambda: queue() == [*waiting, ("a", JobState.CANCELLED)])
    thread.clear_ended()
    qtbot.waitUntil(lambda: queue() == waiting)


def test_warm_up_starts_the_engine(
    qtbot: QtBot, thread: EngineThread, listener: Listener, engines: FakeEngines
) -> None:
    thread.start()
    thread.warm_up()
    qtbot.waitUntil(lambda: listener.seen(EngineReady))
    assert engines.last.jobs == []


def test_another_engine_takes_the_place_of_the_first(
    qtbot: QtBot, thread: EngineThread, engines: FakeEngines
) -> None:
    thread.start()
    thread.warm_up()
    thread.renew_engine()
    qtbot.waitUntil(lambda: len(engines.started) == 2)
    assert not engines.started[0].alive


def test_samples_of_another_thread_reach_the_engine_as_a_wish_for_less(qtbot: QtBot) -> None:
    engines = FakeEngines(device="cuda:0")
    thread = EngineThread(start_engine=engines, store=None)
    thread.start()
    thread.submit(make_job("job"))
    qtbot.waitUntil(lambda: bool(engines.started) and bool(engines.last.jobs))
    engines.last.say(
        PlanMade(job_id="job", plan=make_plan(decode_gib=9.0)),
        PhaseStarted(job_id="job", phase=Phase.DENOISE),
    )

    def watch() -> None:
        for number in range(10):
            gpu = device(used_gib=9.0 if number < 5 else 11.5, engine_gib=8.0)
            thread.note_sample(sample(number / 10, gpu=gpu))

    monitor = threading.Thread(target=watch)
    monitor.start()
    monitor.join()
    try:
        qtbot.waitUntil(lambda: isinstance(engines.last.commands[-1], RelieveJob))
    finally:
        thread.stop()


def test_a_finished_job_teaches_and_leaves_nothing_behind(qtbot: QtBot, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    kept_file(runs, "a").write_bytes(b"latents")
    kept_file(runs, "other").write_bytes(b"latents")
    calibration = tmp_path / "calibration.json"
    denoise = MeasuredPhase(seconds=9.0, peak_bytes=9 * GIB)
    report = RunReport(
        plan=make_plan(), phases=(), measured=MeasuredRun(phases={Phase.DENOISE: denoise})
    )
    engines = FakeEngines(
        on_run=lambda client, job: client.say(
            JobFinished(job_id=job.id, seconds=1.0, memory=MEMORY, report=report)
        )
    )
    thread = EngineThread(
        start_engine=engines,
        store=None,
        calibration=CalibrationStore(calibration),
        runs_folder=runs,
    )
    thread.set_driver("nvidia 580.1")
    thread.start()
    thread.submit(make_job("a"))
    try:
        qtbot.waitUntil(lambda: not kept_file(runs, "a").exists())
    finally:
        thread.stop()
    assert kept_file(runs, "other").exists()
    assert calibration.exists()


def test_stop_ends_the_engine_and_joins(thread: EngineThread, engines: FakeEngines) -> None:
    thread.start()
    thread.warm_up()
    assert thread.stop()
    assert thread.isFinished()
    assert not engines.last.alive
    assert thread.stop(), "stopping twice does nothing"


def test_request_stop_returns_at_once_and_finished_is_told(
    qtbot: QtBot, thread: EngineThread
) -> None:
    thread.start()
    with qtbot.waitSignal(thread.finished):
        thread.request_stop()


def test_a_thread_that_never_ran_can_be_stopped(thread: EngineThread) -> None:
    assert thread.stop()
