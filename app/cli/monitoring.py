"""The monitor without a window: samples go to the conductor while a command runs."""

import threading
import time
from dataclasses import replace
from types import TracebackType

from app.conductor import Conductor, RunLearning
from app.core.events import ConductorEvent, EngineReady, EngineStateChanged
from app.monitor.pacer import Pacer
from app.monitor.sampler import EngineProcess, OpenSampler, engine_process, open_sampler

INTERVAL_S = 0.1
JOIN_TIMEOUT_S = 3.0
"""A driver that hangs in a call does not keep the command from ending."""


class Monitoring:
    """A context in which memory is watched, ten times a second."""

    def __init__(
        self,
        conductor: Conductor,
        learning: RunLearning,
        open_sampler: OpenSampler = open_sampler,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Prepare; nothing is asked before the context is entered.

        Args:
            conductor: Given the samples.
            learning: Told the driver.
            open_sampler: Called in the monitor's thread.
            interval_s: Between samples.
        """
        self._conductor = conductor
        self._learning = learning
        self._open_sampler = open_sampler
        self._interval_s = interval_s
        # A plain reference that one thread writes and the other reads.
        self._engine = EngineProcess()
        self._stop = threading.Event()
        # A daemon: see JOIN_TIMEOUT_S.
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def note(self, event: ConductorEvent) -> None:
        """Learn from events which process is the engine."""
        match event:
            case EngineReady():
                self._engine = engine_process(event)
            case EngineStateChanged() if event.pid != self._engine.pid:
                self._engine = replace(self._engine, pid=event.pid)
            case _:
                pass

    def __enter__(self) -> "Monitoring":
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        sampler = self._open_sampler(lambda: self._engine)
        try:
            pacer = Pacer(self._interval_s, now_s=time.monotonic())
            while not self._stop.wait(pacer.wait_s(time.monotonic())):
                sample = sampler.sample()
                self._learning.set_driver(sampler.driver)
                self._conductor.note_sample(sample)
                pacer.ticked(time.monotonic())
        finally:
            sampler.close()
