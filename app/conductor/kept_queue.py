"""The queue with its file: whatever changes in it is written and told."""

from collections.abc import Callable

from app.core.events import ConductorEvent, Notice, QueueChanged
from app.core.job_queue import JobQueue
from app.core.queue_store import QueueStore


class KeptQueue:
    """Jobs in their order, kept over restarts.

    Attributes:
        jobs: The queue itself; whoever changes it calls `changed`.
        paused: Whether no further job is begun.
    """

    def __init__(self, *, store: QueueStore | None, emit: Callable[[ConductorEvent], None]) -> None:
        """Read the stored queue; jobs found there wait, paused, so that nothing runs by surprise.

        Args:
            store: Keeps waiting jobs over restarts; None where nothing is to be kept.
            emit: Told each change.
        """
        self._store = store
        self._emit = emit
        restored = () if store is None else store.load()
        self.jobs = JobQueue(restored)
        self.paused = bool(restored)

    def tell_first(self) -> None:
        """Say what was found, and what was wrong with it."""
        if self._store is not None and self._store.problem:
            self._notify("queue.unreadable", self._store.problem)
        self.changed()

    def changed(self) -> None:
        """Write the queue and tell it."""
        if self._store is not None:
            problem = self._store.save(self.jobs.unfinished())
            if problem:
                self._notify("queue.not_saved", problem)
        self._emit(QueueChanged(jobs=self.jobs.snapshot(), paused=self.paused))

    def _notify(self, code: str, message: str) -> None:
        self._emit(Notice(job_id="", code=code, message=message))
