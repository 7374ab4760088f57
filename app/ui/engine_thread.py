"""The engine thread: a Qt shell around the conductor."""

from PySide6.QtCore import QObject, QThread, Signal

from app.conductor import Conductor
from app.core.jobs import Job
from app.core.queue_store import QueueStore
from app.engine.client import StartEngine

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
        self, *, start_engine: StartEngine, store: QueueStore | None, parent: QObject | None = None
    ) -> None:
        """Read the stored queue; nothing runs before `start`."""
        super().__init__(parent)
        self.setObjectName("engine")
        self._conductor = Conductor(
            start_engine=start_engine, store=store, emit=self.event_received.emit
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

    def set_paused(self, paused: bool, /) -> None:  # noqa: FBT001 - a setter
        """Begin no further job, or go on; the running one is not touched."""
        self._conductor.set_paused(paused)

    def clear_ended(self) -> None:
        """Forget all jobs that have ended."""
        self._conductor.clear_ended()

    def warm_up(self) -> None:
        """Start the engine process before there is a job for it."""
        self._conductor.warm_up()

    def request_stop(self) -> None:
        """Begin to stop; `finished` tells when it is done."""
        self._conductor.shutdown()

    def stop(self) -> bool:
        """End the engine and join the thread; False when it does not end in time. Idempotent."""
        self._conductor.shutdown()
        return self.wait(JOIN_MS)
