"""The job loop: feeds the engine process one job at a time and outlives its death.

Everything that happens, an intent of the user or a message of the engine, goes through one inbox
and is handled in one thread, so there is nothing to lock and every order of events is a test.
"""

import logging
import queue
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.core.atomic import sweep_partials
from app.core.errors import ErrorInfo
from app.core.events import (
    CalibrationDone,
    ConductorEvent,
    EngineLog,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobFinished,
    Notice,
    QueueChanged,
)
from app.core.job_queue import JobQueue
from app.core.jobs import Job, JobState
from app.core.log import forward_engine_log
from app.core.queue_store import QueueStore
from app.engine.client import EngineEnded, EngineMessage, StartEngine
from app.engine.protocol import Hello
from app.engine.session import SETUP_CODE, EngineSession, death_error, death_sentence
from app.engine.slot import EngineSlot

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""After so many deaths of the engine on one job, the job is what kills it."""
CLOSING_GRACE_S = 1.0
"""Closing the window does not wait for a long step; the job runs again after the next start."""
_PERMANENT_ERRORS = frozenset({"engine.version", SETUP_CODE})
"""Ends of the engine that a new process would meet again."""


class Conductor:
    """The queue and the one engine process that works on it.

    The intents (`submit`, `cancel`, ...) may be called in any thread and return at once; what came
    of them is told by events, which are emitted in the thread of `run`.
    """

    def __init__(
        self,
        *,
        start_engine: StartEngine,
        store: QueueStore | None,
        emit: Callable[[ConductorEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the stored queue; jobs found there wait, paused, so that nothing runs by surprise.

        Args:
            start_engine: Makes a running engine process; called when one is needed.
            store: Keeps waiting jobs over restarts; None where nothing is to be kept.
            emit: Told every event, in order; must return at once.
            clock: Monotonic, in seconds.
        """
        self._store = store
        self._emit = emit
        self._clock = clock
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        restored = () if store is None else store.load()
        self._queue = JobQueue(restored)
        self._paused = bool(restored)
        self._slot = EngineSlot(start_engine=start_engine, deliver=self._deliver, clock=clock)
        self._remove_when_ended: set[str] = set()
        self._opened = False
        self._closing = False

    # Intents, from any thread.

    def submit(self, job: Job, *, front: bool = False) -> None:
        """Queue a job, as the next one when `front`."""
        self._inbox.put(partial(self._on_submit, job, front=front))

    def cancel(self, job_id: str) -> None:
        """Take a job back; asked twice, a running one is ended with its process."""
        self._inbox.put(partial(self._on_cancel, job_id))

    def remove(self, job_id: str) -> None:
        """Forget a job; a running one is cancelled first."""
        self._inbox.put(partial(self._on_remove, job_id))

    def move(self, job_id: str, to_index: int) -> None:
        """Give a waiting job another place among the waiting ones; 0 is next."""
        self._inbox.put(partial(self._on_move, job_id, to_index))

    def set_paused(self, paused: bool, /) -> None:  # noqa: FBT001 - a setter
        """Begin no further job, or go on; the running one is not touched."""
        self._inbox.put(partial(self._on_set_paused, paused=paused))

    def clear_ended(self) -> None:
        """Forget all jobs that have ended."""
        self._inbox.put(self._on_clear_ended)

    def warm_up(self) -> None:
        """Start the engine process before there is a job for it."""
        self._inbox.put(self._on_warm_up)

    def shutdown(self) -> None:
        """End the engine and `run`; the running job is kept for the next start. Idempotent."""
        self._inbox.put(self._on_shutdown)

    # The loop, in one thread.

    def run(self) -> None:
        """Handle intents and messages until `shutdown`; the engine does not outlive this call."""
        try:
            self._open()
            while not self._closing:
                try:
                    action = self._inbox.get(timeout=self._slot.patience_s())
                except queue.Empty:
                    action = None
                if action is not None:
                    action()
                self._check_deadline()
        finally:
            self._kill_engine()

    def process_pending(self) -> None:
        """Handle what is in the inbox and return; an alternative to `run` for tests."""
        self._open()
        self._drain()
        self._check_deadline()

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        if self._store is not None and self._store.problem:
            self._notify("queue.unreadable", self._store.problem)
        self._queue_changed()

    def _drain(self) -> None:
        while True:
            try:
                action = self._inbox.get_nowait()
            except queue.Empty:
                return
            action()

    def _check_deadline(self) -> None:
        overdue = self._slot.overdue()
        if overdue is not None:
            self._on_engine_ended(None, overdue)

    def _deliver(self, number: int, message: EngineMessage) -> None:
        self._inbox.put(partial(self._on_message, number, message))

    # What the user wants.

    def _on_submit(self, job: Job, *, front: bool) -> None:
        if job.state is not JobState.QUEUED or not self._queue.add(job, front=front):
            log.warning("job %s is not queued: it is %s or known", job.id, job.state.value)
            return
        self._queue_changed()
        self._advance()

    def _on_cancel(self, job_id: str) -> None:
        if self._queue.cancel_waiting(job_id):
            self._emit(JobCancelled(job_id=job_id))
            self._queue_changed()
            return
        running = self._queue.running
        if running is None or running.id != job_id:
            return
        engine = self._slot.session
        given = engine is not None and engine.job_id == job_id
        if engine is not None and given and engine.cancel():
            return
        if given:
            self._kill_engine()
            self._emit(EngineStateChanged(state=EngineState.STOPPED))
        # Else the engine is still starting and has not heard of the job: it may go on with that.
        self._emit(JobCancelled(job_id=job_id))
        self._end_job(JobState.CANCELLED)

    def _on_remove(self, job_id: str) -> None:
        running = self._queue.running
        if running is not None and running.id == job_id:
            self._remove_when_ended.add(job_id)
            self._on_cancel(job_id)
        elif self._queue.remove(job_id):
            self._queue_changed()

    def _on_move(self, job_id: str, to_index: int) -> None:
        if self._queue.move(job_id, to_index):
            self._queue_changed()

    def _on_set_paused(self, *, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._queue_changed()
            self._advance()

    def _on_clear_ended(self) -> None:
        if self._queue.clear_ended():
            self._queue_changed()

    def _on_warm_up(self) -> None:
        if self._slot.session is None and not self._closing:
            self._begin_engine(EngineState.STARTING)

    def _on_shutdown(self) -> None:
        if self._closing:
            return
        self._closing = True
        engine = self._slot.session
        if engine is not None and engine.ready:
            if engine.job_id is None:
                engine.client.stop()
            else:
                engine.client.stop(grace_s=CLOSING_GRACE_S)
        else:
            self._kill_engine()
        # What it said in its last moments, above all images that are saved by now.
        self._drain()
        running = self._queue.running
        if running is not None:
            self._sweep(running)
        if running is not None and engine is not None and engine.cancel_sent:
            self._emit(JobCancelled(job_id=running.id))
            self._queue.end_running(JobState.CANCELLED)
        elif running is not None:
            self._queue.requeue_running(attempts=running.attempts)
        self._slot.forget()
        self._queue_changed()
        if engine is not None:
            self._emit(EngineStateChanged(state=EngineState.STOPPED))

    # What the engine says.

    def _on_message(self, number: int, message: EngineMessage) -> None:
        if not self._slot.is_current(number):
            return
        engine = self._slot.session
        if isinstance(message, EngineEnded):
            if not self._closing:
                self._slot.forget()
                self._on_engine_ended(engine, message)
        elif engine is None:
            # The process spoke before the slot knew of it, which `begin` in this thread rules out.
            log.warning("a message of an unknown engine: %s", type(message).__name__)
        elif isinstance(message, Hello):
            engine.note_hello(now_s=self._clock())
        elif isinstance(message, EngineLog):
            forward_engine_log(message)
            engine.note_log(message)
            self._emit(message)
        elif isinstance(message, EngineReady):
            engine.note_ready()
            self._emit(message)
            self._settle()
        elif isinstance(message, CalibrationDone):
            self._emit(message)
        elif message.job_id == engine.job_id:
            self._on_job_event(engine, message)

    def _on_job_event(self, engine: EngineSession, event: JobEvent) -> None:
        # Closing ends the job without the user having taken it back: it waits for the next start.
        if self._closing and isinstance(event, JobCancelled) and not engine.cancel_sent:
            return
        engine.note(event)
        self._emit(event)
        if isinstance(event, ImageDone):
            if event.path is not None:
                self._queue.mark_saved(event.index)
                self._queue_changed()
        elif isinstance(event, JobFinished):
            self._end_job(JobState.FINISHED)
        elif isinstance(event, JobCancelled):
            self._end_job(JobState.CANCELLED)
        elif isinstance(event, JobFailed):
            log.info("job %s failed: %s %s", event.job_id, event.error.code, event.error.message)
            self._end_job(JobState.FAILED, error=event.error)

    def _on_engine_ended(self, engine: EngineSession | None, ended: EngineEnded) -> None:
        if engine is not None:
            ended = engine.explain(ended)
        phase = None if engine is None else engine.phase
        sentence = death_sentence(ended, phase)
        job = self._queue.running
        log.info("%s; its last words: %s", sentence, ended.log_tail[-2000:])
        if job is None:
            reason = f"{sentence}; a new one is started with the next job."
            self._emit(EngineStateChanged(state=EngineState.STOPPED, reason=reason))
            return
        self._sweep(job)
        if engine is not None and engine.cancel_sent:
            self._emit(EngineStateChanged(state=EngineState.STOPPED))
            self._emit(JobCancelled(job_id=job.id))
            self._end_job(JobState.CANCELLED)
            return
        attempts = job.attempts + 1
        self._queue.rerun(attempts=attempts)
        permanent = ended.error is not None and ended.error.code in _PERMANENT_ERRORS
        if permanent or attempts >= MAX_ATTEMPTS:
            error = death_error(ended, phase, attempts=attempts)
            self._emit(EngineStateChanged(state=EngineState.STOPPED, reason=f"{sentence}."))
            self._emit(JobFailed(job_id=job.id, error=error))
            self._end_job(JobState.FAILED, error=error)
            return
        self._queue_changed()
        reason = f"{sentence}; a new one is started and the job runs again."
        self._begin_engine(EngineState.RESTARTING, reason=reason)

    # What is done about it.

    def _advance(self) -> None:
        """Begin the next job if there is one and nothing speaks against it."""
        if self._closing or self._queue.running is not None or self._paused:
            return
        if self._queue.take_next() is None:
            return
        self._queue_changed()
        if self._slot.session is None:
            self._begin_engine(EngineState.STARTING)
        else:
            self._settle()

    def _settle(self) -> None:
        """Give a ready engine the running job, or say that it is idle."""
        engine = self._slot.session
        if engine is None or not engine.ready or self._closing:
            return
        job = self._queue.running
        pid = engine.client.pid
        if job is None:
            self._emit(EngineStateChanged(state=EngineState.READY, pid=pid))
        elif engine.job_id is None:
            self._emit(EngineStateChanged(state=EngineState.BUSY, pid=pid))
            engine.give(job)

    def _begin_engine(self, state: EngineState, *, reason: str = "") -> None:
        session = self._slot.begin()
        if session is not None:
            self._emit(EngineStateChanged(state=state, pid=session.client.pid, reason=reason))

    def _end_job(self, state: JobState, *, error: ErrorInfo | None = None) -> None:
        job = self._queue.running
        self._queue.end_running(state, error=error)
        if self._slot.session is not None:
            self._slot.session.note_job_ended()
        if job is not None and job.id in self._remove_when_ended:
            self._remove_when_ended.discard(job.id)
            self._queue.remove(job.id)
        self._queue_changed()
        self._advance()
        if self._queue.running is None:
            self._settle()

    def _kill_engine(self) -> None:
        self._slot.kill()
        if self._queue.running is not None:
            self._sweep(self._queue.running)

    def _sweep(self, job: Job) -> None:
        """Remove the half-written file of a process that was killed while saving."""
        file = job.output.file
        sweep_partials(Path(job.output.folder) if file is None else Path(file).parent)

    def _queue_changed(self) -> None:
        if self._store is not None:
            problem = self._store.save(self._queue.unfinished())
            if problem:
                self._notify("queue.not_saved", problem)
        self._emit(QueueChanged(jobs=self._queue.snapshot(), paused=self._paused))

    def _notify(self, code: str, message: str) -> None:
        self._emit(Notice(job_id="", code=code, message=message))
