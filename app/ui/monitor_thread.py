"""The monitor thread: looks at the hardware ten times a second and tells the window."""

import logging
import threading
import time

from PySide6.QtCore import QObject, QThread, Signal, Slot

from app.monitor.pacer import Pacer
from app.monitor.sampler import EngineProcess, OpenSampler, open_sampler

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
SLOW_INTERVAL_S = 1.0
"""While nobody looks: the recording goes on, coarsely."""
STOP_TIMEOUT_MS = 3000


class MonitorThread(QThread):
    """Takes samples at a steady rhythm.

    Signals:
        driver_changed: Name and version (str) of the driver of the GPU that is watched; "" is none.
        sampled: Sample.

    Both are emitted in this thread; connect bound methods of QObjects.
    """

    driver_changed = Signal(str)
    sampled = Signal(object)

    def __init__(
        self,
        open_sampler: OpenSampler = open_sampler,
        *,
        interval_s: float = INTERVAL_S,
        slow_interval_s: float = SLOW_INTERVAL_S,
        parent: QObject | None = None,
    ) -> None:
        """Prepare; nothing is asked before `start`.

        Args:
            open_sampler: Called in the thread with what tells it the engine process.
            interval_s: Between samples.
            slow_interval_s: The same after `set_watched(False)`.
            parent: Owner.
        """
        super().__init__(parent)
        self.setObjectName("monitor")
        self._open_sampler = open_sampler
        self._interval_s = interval_s
        self._slow_interval_s = slow_interval_s
        # Plain references that one thread writes and the other reads.
        self._engine = EngineProcess()
        self._watched = True
        self._run_goes_on = False
        self._stopping = False
        self._wake = threading.Event()

    @Slot(object)
    def set_engine(self, engine: EngineProcess) -> None:
        """Watch this process from the next sample on."""
        self._engine = engine

    @Slot(bool)
    def set_watched(self, watched: bool) -> None:  # noqa: FBT001 - a slot
        """Sample ten times a second while someone looks, once a second while nobody does."""
        if watched != self._watched:
            self._watched = watched
            self._wake.set()

    @Slot()
    def begin_run(self) -> None:
        """Sample at the full rhythm whoever looks: what comes of memory has to be foreseen."""
        self._run_goes_on = True
        self._wake.set()

    @Slot()
    def end_run(self) -> None:
        """Sample as fast as someone looks."""
        self._run_goes_on = False

    def stop(self, timeout_ms: int = STOP_TIMEOUT_MS) -> bool:
        """End the thread and wait for it; idempotent.

        Returns:
            False when it did not end in time: a driver hangs in a call.
        """
        self._stopping = True
        self._wake.set()
        ended = self.wait(timeout_ms)
        if not ended:
            log.warning("the monitor thread does not end: a driver does not answer")
        return ended

    def _rhythm_s(self) -> float:
        at_full = self._watched or self._run_goes_on
        return self._interval_s if at_full else self._slow_interval_s

    def run(self) -> None:
        """Sample until `stop`; called by Qt in the new thread."""
        sampler = self._open_sampler(lambda: self._engine)
        try:
            driver = ""
            pacer = Pacer(self._interval_s, now_s=time.monotonic())
            while not self._stopping:
                self._wake.clear()
                pacer.interval_s = self._rhythm_s()
                delay_s = pacer.wait_s(time.monotonic())
                # `stop` may have come between the loop's test and the clearing of its signal.
                if self._stopping or (delay_s > 0 and self._wake.wait(delay_s)):
                    continue
                sample = sampler.sample()
                if sampler.driver != driver:
                    driver = sampler.driver
                    self.driver_changed.emit(driver)
                self.sampled.emit(sample)
                pacer.ticked(time.monotonic())
        finally:
            sampler.close()
