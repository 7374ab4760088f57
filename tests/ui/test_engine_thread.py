"""The engine thread with a scripted engine: events arrive in the main thread, stop joins."""

import threading
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QObject, Slot
from pytestqt.qtbot import QtBot

from app.core.events import EngineReady, EngineState, EngineStateChanged, JobFinished, QueueChanged
from app.core.jobs import Job, JobState, OutputTarget
from app.core.request import GenerationRequest
from app.ui.engine_thread import EngineThread
from tests.fakes.engine import FakeEngines, finish_at_once


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
