"""The engine thread: a Qt shell around the conductor."""

from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, QThread, Signal, Slot

from app.conductor import Conductor, RunLearning, ignore
from app.core.calibration_store import CalibrationStore
from app.core.device import Sample
from app.core.jobs import Job
from app.core.policy import Budget
from app.core.queue_store import QueueStore
from app.engine.client import StartEngine
from app.engine.kept_runs import forget_run
from app.engine.protocol import Calibrate

JOIN_MS = 15_000
"""Longest stop: the engine is asked, terminated and killed, each with its own patience."""


class EngineThread(QThread):
    """Runs the conductor; intents may be called in any thread and return at once.

    Whoever makes it keeps it until `stop` has returned: dropping a running thread aborts Qt.

    Attributes:
        event_received: Each ConductorEvent, a frozen object, in order; emitted in this thread, so
            connect it to bound methods of QObjects only.
    """

    event_received = Signal(object)

    def __init__(
        self,
        *,
        start_engine: StartEngine,
        store: QueueStore | None,
        calibration: CalibrationStore | None = None,
        runs_folder: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        """Read the stored queue; nothing runs before `start`.

        Args:
            start_engine: Makes a running engine process.
            store: Keeps waiting jobs over restarts.
            calibration: Learns from each run that finished.
            runs_folder: Where engines keep what is done of a run; goes with its job.
            parent: Owner.
        """
        super().__init__(parent)
        self.setObjectName("engine")
        self._learning = None if calibration is None else RunLearning(calibration)
        self._conductor = Conductor(
            start_engine=start_engine,
            store=store,
            emit=self.event_received.emit,
            on_report=ignore if self._learning is None else self._learning.learn,
            on_job_over=ignore if runs_folder is None else partial(forget_run, runs_folder),
        )

    def run(self) -> None:
        """Body of the thread; called by Qt after `start`."""
        self._conductor.run()

    def submit(self, job: Job, *, front: bool = False) -> None:
        """Queue a job, as the next one when `front`."""
        self._conductor.submit(job, front=front)

    def cancel(self, job_id: str) -> None:
        """Take a job back; asked twice, a running one is ended with its process."""
        self._conductor.cancel(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job; a running one is cancelled first."""
        self._conductor.remove(job_id)

    def move(self, job_id: str, to_index: int) -> None:
        """Give a waiting job another place among the waiting ones; 0 is next."""
        self._conductor.move(job_id, to_index)

    def change_budget(self, job_id: str, budget: Budget) -> None:
        """Let a running job use more or less of the device from its next block on."""
        self._conductor.change_budget(job_id, budget)

    def set_paused(self, paused: bool, /) -> None:  # noqa: FBT001 - a setter
        """Begin no further job, or go on; the running one is not touched."""
        self._conductor.set_paused(paused)

    def clear_ended(self) -> None:
        """Forget all jobs that have ended."""
        self._conductor.clear_ended()

    def calibrate(self, command: Calibrate) -> None:
        """Measure the machine, when no run is going on."""
        self._conductor.calibrate(command)

    def warm_up(self) -> None:
        """Start the engine process before there is a job for it."""
        self._conductor.warm_up()

    @Slot()
    def renew_engine(self) -> None:
        """Replace the engine process, after the running job: it is started with other settings."""
        self._conductor.renew_engine()

    @Slot(object)
    def note_sample(self, sample: Sample) -> None:
        """Look at the running job's memory; may be called in any thread."""
        self._conductor.note_sample(sample)

    @Slot(str)
    def set_driver(self, driver: str) -> None:
        """What the GPU's driver calls itself; may be called in any thread."""
        if self._learning is not None:
            self._learning.set_driver(driver)

    def request_stop(self) -> None:
        """Begin to stop; `finished` tells when it is done."""
        self._conductor.shutdown()

    def stop(self) -> bool:
        """End the engine and join the thread; False when it does not end in time. Idempotent."""
        self._conductor.shutdown()
        return self.wait(JOIN_MS)
