"""The monitor thread: real threads, fake hardware."""

import threading
from collections.abc import Callable

import pytest
from PySide6.QtCore import QObject, QThread, Slot

from app.core.device import Sample
from app.monitor.sampler import EngineProcess, Sampler, open_sampler
from app.ui.monitor_thread import MonitorThread
from tests.fakes.hardware import FakeHost, FakeProbe, device


class Listener(QObject):
    """Keeps what it is told, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[Sample] = []
        self.threads: set[QThread] = set()

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.threads.add(QThread.currentThread())


class Bench:
    """A monitor thread on fakes, at a hundred samples a second."""

    def __init__(self, *, slow_interval_s: float = 0.02) -> None:
        self.probe = FakeProbe(device())
        self.host = FakeHost()
        self.opened_in: list[int] = []
        self.listener = Listener()
        self.thread = MonitorThread(self._open, interval_s=0.01, slow_interval_s=slow_interval_s)
        self.thread.sampled.connect(self.listener.on_sample)

    def _open(self, engine: Callable[[], EngineProcess]) -> Sampler:
        self.opened_in.append(threading.get_ident())
        return Sampler(probes=(self.probe,), host=self.host, engine=engine)


@pytest.fixture
def bench(qapp):
    made = Bench()
    yield made
    made.thread.stop()


def test_samples_reach_the_gui_thread(bench: Bench, qtbot):
    bench.thread.start()
    qtbot.waitUntil(lambda: len(bench.listener.samples) >= 3)
    assert bench.listener.threads == {QThread.currentThread()}
    assert bench.listener.samples[0].device == bench.probe.now
    times = [sample.time_s for sample in bench.listener.samples]
    assert times == sorted(set(times))


def test_the_drivers_are_opened_in_the_thread_and_closed_at_its_end(bench: Bench, qtbot):
    bench.thread.start()
    qtbot.waitUntil(lambda: len(bench.listener.samples) >= 1)
    assert bench.opened_in != [threading.get_ident()]
    assert not bench.probe.closed
    assert bench.thread.stop()
    assert bench.probe.closed


def test_the_engine_process_is_watched_from_when_it_is_told(bench: Bench, qtbot):
    bench.thread.start()
    qtbot.waitUntil(lambda: len(bench.host.asked_for) >= 2)
    bench.thread.set_engine(EngineProcess(pid=4711))
    qtbot.waitUntil(lambda: 4711 in bench.host.asked_for)
    bench.thread.set_engine(EngineProcess())
    qtbot.waitUntil(lambda: bench.host.asked_for[-1] is None)


def test_nobody_watching_slows_it_down_and_somebody_wakes_it_at_once(qtbot):
    bench = Bench(slow_interval_s=3600.0)
    bench.thread.set_watched(False)
    bench.thread.start()
    qtbot.waitUntil(lambda: len(bench.listener.samples) == 1)
    # The next sample would come in an hour.
    bench.thread.set_watched(True)
    qtbot.waitUntil(lambda: len(bench.listener.samples) >= 3)
    assert bench.thread.stop()


def test_stopping_does_not_wait_for_the_next_sample(qtbot):
    bench = Bench(slow_interval_s=3600.0)
    bench.thread.set_watched(False)
    bench.thread.start()
    qtbot.waitUntil(lambda: len(bench.listener.samples) == 1)
    assert bench.thread.stop(timeout_ms=5000)
    assert bench.thread.isFinished()


def test_it_may_be_stopped_twice_and_before_it_was_started(bench: Bench):
    assert bench.thread.stop()
    assert bench.thread.stop()


def test_stopping_right_after_starting_ends_it(bench: Bench):
    bench.thread.start()
    assert bench.thread.stop()
    assert bench.probe.closed


def test_a_driver_that_hangs_is_reported_and_does_not_block_for_ever(qapp, expect_log):
    release = threading.Event()

    def hang(engine: Callable[[], EngineProcess]) -> Sampler:
        release.wait()
        return Sampler(probes=(), host=FakeHost(), engine=engine)

    thread = MonitorThread(hang)
    thread.start()
    expect_log("does not end", logger="app.ui.monitor_thread")
    assert not thread.stop(timeout_ms=20)
    release.set()
    assert thread.wait(5000)


def test_the_sampler_of_this_machine_tells_its_memory():
    sampler = open_sampler(EngineProcess)
    sample = sampler.sample()
    sampler.close()
    assert sample.host.total_bytes > 0


def test_a_run_is_watched_at_the_full_rhythm_whoever_looks(qtbot):
    bench = Bench(slow_interval_s=3600.0)
    bench.thread.set_watched(False)
    bench.thread.start()
    try:
        qtbot.waitUntil(lambda: len(bench.listener.samples) >= 1)
        bench.thread.begin_run()
        qtbot.waitUntil(lambda: len(bench.listener.samples) >= 4)
        bench.thread.end_run()
        bench.thread.set_watched(True)
        count = len(bench.listener.samples)
        qtbot.waitUntil(lambda: len(bench.listener.samples) >= count + 2)
    finally:
        bench.thread.stop()
