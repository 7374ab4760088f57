"""What the user wants of the queue and the engine, carried out in the conductor's thread."""

import logging
from collections.abc import Callable
from dataclasses import replace

from app.conductor.engine_work import EngineWork
from app.core.events import EngineState, EngineStateChanged, JobCancelled
from app.core.jobs import Job, JobState
from app.core.policy import Budget
from app.engine.protocol import Calibrate

log = logging.getLogger(__name__)

CLOSING_GRACE_S = 1.0
"""Closing the window does not wait for a long step; the job runs again after the next start."""


class Wishes:
    """One method for each intent of `Conductor`."""

    def __init__(self, work: EngineWork, *, drain: Callable[[], None]) -> None:
        """Act on this work.

        Args:
            work: Queue and engine.
            drain: Handles what is in the inbox.
        """
        self._work = work
        self._drain = drain

    def submit(self, job: Job, *, front: bool) -> None:
        """Queue a job."""
        work = self._work
        if job.state is not JobState.QUEUED or not work.jobs.add(job, front=front):
            log.warning("job %s is not queued: it is %s or known", job.id, job.state.value)
            return
        work.queue.changed()
        work.advance()

    def cancel(self, job_id: str) -> None:
        """Take a job back."""
        work = self._work
        if work.jobs.cancel_waiting(job_id):
            work.tell(JobCancelled(job_id=job_id))
            work.queue.changed()
            work.job_over(job_id)
            return
        running = work.jobs.running
        if running is None or running.id != job_id:
            return
        engine = work.slot.session
        given = engine is not None and engine.job_id == job_id
        if engine is not None and given and engine.cancel(now_s=work.slot.now_s()):
            return
        if given:
            work.end_cancelled()
            return
        # The engine is still starting and has not heard of the job: it may go on with that.
        work.tell(JobCancelled(job_id=job_id))
        work.end_job(JobState.CANCELLED)

    def remove(self, job_id: str) -> None:
        """Forget a job; a running one is cancelled first."""
        work = self._work
        running = work.jobs.running
        if running is not None and running.id == job_id:
            work.remove_when_ended.add(job_id)
            self.cancel(job_id)
        elif work.jobs.remove(job_id):
            work.queue.changed()
            work.job_over(job_id)

    def move(self, job_id: str, to_index: int) -> None:
        """Give a waiting job another place."""
        if self._work.jobs.move(job_id, to_index):
            self._work.queue.changed()

    def change_budget(self, job_id: str, budget: Budget) -> None:
        """Have a running job use more or less of the device; begun anew, it keeps to that."""
        work = self._work
        job = work.jobs.running
        if job is None or job.id != job_id or Budget.of(job.policy) == budget:
            return
        work.jobs.change_running(replace(job, policy=budget.applied_to(job.policy)))
        work.queue.changed()
        engine = work.slot.session
        # One that has not been given the job yet will be given it as it is now.
        if engine is not None and engine.job_id == job_id:
            engine.change_budget(budget)

    def set_paused(self, *, paused: bool) -> None:
        """Begin no further job, or go on."""
        queue = self._work.queue
        if paused != queue.paused:
            queue.paused = paused
            queue.changed()
            self._work.advance()

    def clear_ended(self) -> None:
        """Forget all jobs that have ended."""
        work = self._work
        ended = work.jobs.ended
        if work.jobs.clear_ended():
            work.queue.changed()
            for job in ended:
                work.job_over(job.id)

    def warm_up(self) -> None:
        """Start the engine process before there is a job for it."""
        if self._work.slot.session is None and not self._work.closing:
            self._work.begin_engine(EngineState.STARTING)

    def calibrate(self, command: Calibrate) -> None:
        """Measure the machine, when no run is going on."""
        if not self._work.closing:
            self._work.calibrate(command)

    def shut_down(self) -> None:
        """End the engine; the running job is kept for the next start."""
        work = self._work
        if work.closing:
            return
        work.closing = True
        engine = work.slot.session
        if engine is not None and engine.ready:
            if engine.job_id is None:
                engine.client.stop()
            else:
                engine.client.stop(grace_s=CLOSING_GRACE_S)
        else:
            work.kill_engine()
        # What it said in its last moments, above all images that are saved by now.
        self._drain()
        running = work.jobs.running
        if running is not None:
            work.sweep(running)
        if running is not None and engine is not None and engine.cancel_sent:
            work.tell(JobCancelled(job_id=running.id))
            work.jobs.end_running(JobState.CANCELLED)
            work.job_over(running.id)
        elif running is not None:
            work.jobs.requeue_running(attempts=running.attempts)
        work.slot.forget()
        work.queue.changed()
        if engine is not None:
            work.tell(EngineStateChanged(state=EngineState.STOPPED))
