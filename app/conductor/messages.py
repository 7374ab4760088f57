"""What the engine says, its end included, and what follows from it for the job."""

import logging
from collections.abc import Callable

from app.conductor.deferred import deferred_job, kept_job
from app.conductor.engine_work import EngineWork
from app.conductor.run_learning import FinishedRun, OnReport
from app.conductor.run_log import log_event
from app.core.errors import ErrorInfo
from app.core.events import (
    BenchDone,
    CalibrationDone,
    EngineLog,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImageDone,
    ImagesDeferred,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobFinished,
)
from app.core.jobs import JobState
from app.core.log import forward_engine_log
from app.engine.client import EngineEnded, EngineMessage
from app.engine.protocol import Hello
from app.engine.session import SETUP_CODE, EngineSession, death_error, death_sentence

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""After so many deaths of the engine on one job, the job is what kills it."""
_PERMANENT_ERRORS = frozenset({"engine.version", SETUP_CODE})
"""Ends of the engine that a new process would meet again."""
GPU_GONE_CODE = "engine.gpu_gone"
CPU = "cpu"


class EngineMessages:
    """Handles the messages of the process in use."""

    def __init__(
        self,
        work: EngineWork,
        *,
        clock: Callable[[], float],
        on_report: OnReport,
    ) -> None:
        """Act on this work.

        Args:
            work: Queue and engine.
            clock: Monotonic, in seconds.
            on_report: Given the report of each run that finished.
        """
        self._work = work
        self._clock = clock
        self._on_report = on_report
        self._ready: EngineReady | None = None
        self._died_on: EngineReady | None = None

    def handle(self, number: int, message: EngineMessage) -> None:
        """Take a message of the process with this number."""
        work = self._work
        if not work.slot.is_current(number):
            return
        engine = work.slot.session
        if isinstance(message, EngineEnded):
            if not work.closing:
                work.slot.forget()
                self.on_engine_ended(engine, message)
        elif engine is None:
            # The process spoke before the slot knew of it, which `begin` in this thread rules out.
            log.warning("a message of an unknown engine: %s", type(message).__name__)
        elif isinstance(message, Hello):
            engine.note_hello(now_s=self._clock())
        elif isinstance(message, EngineLog):
            forward_engine_log(message)
            engine.note_log(message)
            work.tell(message)
        elif isinstance(message, EngineReady):
            engine.note_ready()
            self._ready = message
            work.tell(message)
            self._on_ready(message)
            work.settle()
        elif isinstance(message, CalibrationDone):
            work.note_calibration(message)
        elif isinstance(message, BenchDone):
            log.warning("a bench that nobody asked for")
        elif message.job_id == engine.job_id:
            self._on_job_event(engine, message)

    def on_engine_ended(self, engine: EngineSession | None, ended: EngineEnded) -> None:
        """The process is gone: run its job again, unless that is what kills it."""
        work = self._work
        if engine is not None:
            ended = engine.explain(ended)
        phase = None if engine is None else engine.phase
        sentence = death_sentence(ended, phase)
        job = work.jobs.running
        log.info("%s; its last words: %s", sentence, ended.log_tail[-2000:])
        work.end_calibration(f"The machine could not be measured: {sentence}.")
        if job is None:
            reason = f"{sentence}; a new one is started with the next job."
            work.tell(EngineStateChanged(state=EngineState.STOPPED, reason=reason))
            return
        work.sweep(job)
        if engine is not None and engine.cancel_sent:
            work.tell(EngineStateChanged(state=EngineState.STOPPED))
            work.tell(JobCancelled(job_id=job.id))
            work.end_job(JobState.CANCELLED)
            return
        attempts = job.attempts + 1
        work.jobs.rerun(attempts=attempts)
        permanent = ended.error is not None and ended.error.code in _PERMANENT_ERRORS
        if permanent or attempts >= MAX_ATTEMPTS:
            error = death_error(ended, phase, attempts=attempts)
            work.tell(EngineStateChanged(state=EngineState.STOPPED, reason=f"{sentence}."))
            work.tell(JobFailed(job_id=job.id, error=error))
            work.end_job(JobState.FAILED, error=error)
            return
        work.queue.changed()
        # With other settings the CPU may be what is wanted.
        self._died_on = None if work.is_to_be_renewed else self._ready
        reason = f"{sentence}; a new one is started and the job runs again."
        work.begin_engine(EngineState.RESTARTING, reason=reason)

    def _on_ready(self, ready: EngineReady) -> None:
        """Where the GPU was lost with the engine, have the job not go on for hours on the CPU."""
        died_on, self._died_on = self._died_on, None
        work = self._work
        job = work.jobs.running
        if job is None or died_on is None or died_on.device == CPU or ready.device != CPU:
            return
        error = ErrorInfo(
            code=GPU_GONE_CODE,
            message=(
                f"{died_on.device_name} is not there any more, so that only the CPU is left: "
                "restart the computer and generate again. The queue is paused."
            ),
        )
        log.warning("%s", error.message)
        # Those behind it were not meant for the CPU, either.
        work.queue.paused = True
        work.tell(JobFailed(job_id=job.id, error=error))
        work.end_job(JobState.FAILED, error=error)

    def _on_job_event(self, engine: EngineSession, event: JobEvent) -> None:
        work = self._work
        # Closing ends the job without the user having taken it back: it waits for the next start.
        if work.closing and isinstance(event, JobCancelled) and not engine.cancel_sent:
            return
        engine.note(event)
        log_event(event)
        work.tell(event)
        if isinstance(event, ImageDone):
            if event.path is not None:
                work.jobs.mark_saved(event.index)
                work.queue.changed()
        elif isinstance(event, ImagesDeferred):
            self._defer(event)
        elif isinstance(event, JobFinished):
            self._hand_on(event)
            work.end_job(JobState.FINISHED)
        elif isinstance(event, JobCancelled):
            work.end_job(JobState.CANCELLED)
        elif isinstance(event, JobFailed):
            work.end_job(JobState.FAILED, error=event.error)

    def _hand_on(self, event: JobFinished) -> None:
        if event.report is not None and self._ready is not None:
            run = FinishedRun(
                report=event.report, engine=self._ready, device=self._work.guard.device
            )
            self._work.call(self._on_report, run)

    def _defer(self, event: ImagesDeferred) -> None:
        """Queue what the run puts off as the next job, and no longer count it to this one."""
        jobs = self._work.jobs
        running = jobs.running
        later = None if running is None else deferred_job(running, event)
        if running is None or later is None:
            log.warning("job %s: there is nothing to queue for later", event.job_id)
            return
        jobs.add(later, front=True)
        jobs.change_running(kept_job(running, event))
        self._work.queue.changed()
