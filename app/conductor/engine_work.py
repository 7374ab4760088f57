"""Queue and engine brought together: which job runs in which process, and what its end leads to."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from app.conductor.kept_queue import KeptQueue
from app.conductor.memory_guard import MemoryGuard
from app.core.atomic import sweep_partials
from app.core.errors import ErrorInfo
from app.core.events import (
    CalibrationDone,
    ConductorEvent,
    EngineState,
    EngineStateChanged,
    JobCancelled,
)
from app.core.job_queue import JobQueue
from app.core.jobs import Job, JobState
from app.core.paths import app_paths
from app.engine.kept_runs import is_same_run
from app.engine.protocol import Calibrate
from app.engine.slot import EngineSlot

log = logging.getLogger(__name__)
CALIBRATION_CODE = "engine.calibration"
BUSY_CODE = "engine.busy"
_Value = TypeVar("_Value")


class EngineWork:
    """The queue and the one engine process that works on it.

    Attributes:
        queue: Of jobs, kept in a file.
        slot: For the engine process.
        guard: Watches the memory of the running job.
        closing: Whether the app ends: nothing is begun any more.
        remove_when_ended: Ids of running jobs that are to be forgotten as soon as they have ended.
    """

    def __init__(
        self,
        *,
        queue: KeptQueue,
        slot: EngineSlot,
        emit: Callable[[ConductorEvent], None],
        on_job_over: Callable[[str], None],
    ) -> None:
        """Begin with no engine.

        Args:
            queue: Of jobs.
            slot: Empty.
            emit: Told every event.
            on_job_over: Told the id of each job that will not run again; may be told twice.
        """
        self.queue = queue
        self.slot = slot
        self.guard = MemoryGuard()
        self.closing = False
        self.remove_when_ended: set[str] = set()
        self._emit = emit
        self._on_job_over = on_job_over
        self._renew_when_idle = False
        self._calibration: Calibrate | None = None

    @property
    def jobs(self) -> JobQueue:
        """The queue itself; `queue.changed` is called after changes."""
        return self.queue.jobs

    def tell(self, event: ConductorEvent) -> None:
        """Let the guard and everyone outside know."""
        self.guard.note(event)
        self._emit(event)

    def advance(self) -> None:
        """Begin the next job if there is one and nothing speaks against it."""
        if self.closing or self.jobs.running is not None or self.queue.paused:
            return
        if self.jobs.take_next() is None:
            return
        self.queue.changed()
        if self.slot.session is None:
            self.begin_engine(EngineState.STARTING)
        else:
            self.settle()

    def settle(self) -> None:
        """Give a ready engine the running job, or say that it is idle."""
        engine = self.slot.session
        if engine is None or not engine.ready or self.closing:
            return
        if self._calibration is not None and engine.job_id is None and not engine.calibrating:
            engine.calibrate(self._calibration, now_s=self.slot.now_s())
        job = self.jobs.running
        pid = engine.client.pid
        if job is None:
            self.tell(EngineStateChanged(state=EngineState.READY, pid=pid))
        elif engine.job_id is None:
            self.tell(EngineStateChanged(state=EngineState.BUSY, pid=pid))
            engine.give(job)

    def calibrate(self, command: Calibrate) -> None:
        """Have an idle engine measure the machine; one is started if there is none."""
        if self._calibration is not None:
            # Its answer is still to come, also to a run that waits for it.
            return
        self._calibration = command
        if self.jobs.running is not None:
            self.end_calibration(
                "The machine is measured while no run is going on: try again after this one.",
                code=BUSY_CODE,
            )
        elif self.slot.session is None:
            self.begin_engine(EngineState.STARTING)
        else:
            self.settle()

    def end_calibration(self, sentence: str, *, code: str = CALIBRATION_CODE) -> None:
        """Nothing will be measured, if anything was to be."""
        if self._calibration is not None:
            self.note_calibration(CalibrationDone(error=ErrorInfo(code=code, message=sentence)))

    def note_calibration(self, event: CalibrationDone) -> None:
        """The machine is measured, or will not be."""
        self._calibration = None
        if self.slot.session is not None:
            self.slot.session.note_calibrated()
        self.tell(event)

    def go_on(self) -> None:
        """Take up the work after an error in the loop: nothing waits for an event that was lost."""
        if self.jobs.running is not None and self.slot.session is None and not self.closing:
            self.begin_engine(EngineState.STARTING)
        self.advance()
        self.settle()

    def begin_engine(self, state: EngineState, *, reason: str = "") -> None:
        """Start a process."""
        self._renew_when_idle = False
        session = self.slot.begin()
        if session is not None:
            self.tell(EngineStateChanged(state=state, pid=session.client.pid, reason=reason))

    @property
    def is_to_be_renewed(self) -> bool:
        """Whether the next process has other settings than this one."""
        return self._renew_when_idle

    def renew_engine(self) -> None:
        """Replace the process, after the running job if it has been given one."""
        engine = self.slot.session
        if engine is None or self.closing:
            return
        if engine.job_id is not None:
            self._renew_when_idle = True
            return
        if engine.ready:
            # Nothing counts any more that it says; the slot kills those it does not know.
            self.slot.forget()
            engine.client.stop()
        else:
            self.slot.kill()
        self.tell(EngineStateChanged(state=EngineState.STOPPED))
        self.begin_engine(EngineState.STARTING)

    def end_job(self, state: JobState, *, error: ErrorInfo | None = None) -> None:
        """The running job has come to its end; go on with the next."""
        job = self.jobs.running
        self.jobs.end_running(state, error=error)
        if self.slot.session is not None:
            self.slot.session.note_job_ended()
        if job is not None and job.id in self.remove_when_ended:
            self.remove_when_ended.discard(job.id)
            self.jobs.remove(job.id)
        self.queue.changed()
        if job is not None:
            self.job_over(job.id)
        if self._renew_when_idle:
            self.renew_engine()
        self.advance()
        if self.jobs.running is None:
            self.settle()

    def job_over(self, job_id: str) -> None:
        """Say that a job will not run again, unless one in the list may go on with what it kept.

        So may another try of it, and itself, if it failed for lack of memory: it is over when all
        of them are forgotten.
        """
        jobs = self.jobs.snapshot()
        if not any(one.may_go_on and is_same_run(one.id, job_id) for one in jobs):
            self.call(self._on_job_over, job_id)

    def call(self, hook: Callable[[_Value], None], value: _Value) -> None:
        """Tell someone outside, whose errors must not stop the work."""
        try:
            hook(value)
        except Exception:
            log.exception("what was told of a job could not be taken")

    def kill_engine(self) -> None:
        """End the process now, and remove what it may have left half-written."""
        self.slot.kill()
        self.end_calibration("The engine was ended before it had measured the machine.")
        if self.jobs.running is not None:
            self.sweep(self.jobs.running)

    def end_cancelled(self) -> None:
        """End the process, and with it the running job, which the user has taken back."""
        self.kill_engine()
        self.tell(EngineStateChanged(state=EngineState.STOPPED))
        job = self.jobs.running
        if job is not None:
            self.tell(JobCancelled(job_id=job.id))
            self.end_job(JobState.CANCELLED)

    def sweep(self, job: Job) -> None:
        """Remove the half-written files of a process that was killed while saving or converting."""
        file = job.output.file
        sweep_partials(Path(job.output.folder) if file is None else Path(file).parent)
        # Weights that were being converted: gigabytes, which are not to stay until the next start.
        sweep_partials(app_paths().converted_folder)
