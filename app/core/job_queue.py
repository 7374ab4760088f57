"""The order of jobs and their states; who works on them is the conductor's business."""

from dataclasses import replace
from typing import Any

from app.core.errors import ErrorInfo
from app.core.jobs import LEGAL_TRANSITIONS, Job, JobState

MAX_ENDED_JOBS = 200
"""Ended jobs kept for the window's list; each holds a request, no pixels."""


class JobQueue:
    """At most one running job, those that wait, and those that ended.

    Attributes:
        running: The job being worked on, or None.
    """

    def __init__(self, waiting: tuple[Job, ...] = ()) -> None:
        self.running: Job | None = None
        self._waiting = list(waiting)
        self._ended: list[Job] = []

    @property
    def waiting(self) -> tuple[Job, ...]:
        """Jobs not begun yet, next first."""
        return tuple(self._waiting)

    @property
    def ended(self) -> tuple[Job, ...]:
        """Jobs that have ended, newest first."""
        return tuple(self._ended)

    def snapshot(self) -> tuple[Job, ...]:
        """Every job: running, waiting in order, ended with the newest first."""
        running = () if self.running is None else (self.running,)
        return (*running, *self._waiting, *self._ended)

    def unfinished(self) -> tuple[Job, ...]:
        """What has to survive a restart, in order and all of it queued."""
        running = () if self.running is None else (_moved(self.running, JobState.QUEUED),)
        return (*running, *self._waiting)

    def add(self, job: Job, *, front: bool = False) -> bool:
        """Let a job wait; False when a job with this id is already here."""
        if any(known.id == job.id for known in self.snapshot()):
            return False
        self._waiting.insert(0 if front else len(self._waiting), job)
        return True

    def take_next(self) -> Job | None:
        """Begin the first waiting job; None when there is none or one is running."""
        if self.running is not None or not self._waiting:
            return None
        self.running = _moved(self._waiting.pop(0), JobState.RUNNING)
        return self.running

    def requeue_running(self, *, attempts: int) -> None:
        """Put the running job back in front of all others."""
        if self.running is not None:
            job = _moved(self.running, JobState.QUEUED, attempts=attempts)
            self.running = None
            self._waiting.insert(0, job)

    def rerun(self, *, attempts: int) -> None:
        """Begin the running job anew."""
        self.requeue_running(attempts=attempts)
        self.take_next()

    def mark_saved(self, index: int) -> None:
        """Note that an image of the running job is on disk."""
        if self.running is not None and index not in self.running.saved:
            self.running = replace(self.running, saved=(*self.running.saved, index))

    def change_running(self, job: Job) -> None:
        """Put the running job's new form in its place."""
        if self.running is not None and self.running.id == job.id:
            self.running = job

    def end_running(self, state: JobState, *, error: ErrorInfo | None = None) -> None:
        """Move the running job to the ended ones."""
        if self.running is not None:
            self._end(_moved(self.running, state, error=error))
            self.running = None

    def cancel_waiting(self, job_id: str) -> bool:
        """Move a waiting job to the ended ones; False when it does not wait."""
        for job in self._waiting:
            if job.id == job_id:
                self._waiting.remove(job)
                self._end(_moved(job, JobState.CANCELLED))
                return True
        return False

    def remove(self, job_id: str) -> bool:
        """Forget a waiting or ended job; False when there is no such job."""
        for jobs in (self._waiting, self._ended):
            for job in jobs:
                if job.id == job_id:
                    jobs.remove(job)
                    return True
        return False

    def move(self, job_id: str, to_index: int) -> bool:
        """Give a waiting job another place (0 is next, beyond the end is last).

        Returns:
            False when it does not wait or is already there.
        """
        before = self.waiting
        for job in before:
            if job.id == job_id:
                self._waiting.remove(job)
                self._waiting.insert(max(0, to_index), job)
        return self.waiting != before

    def clear_ended(self) -> bool:
        """Forget all ended jobs; False when there are none."""
        had_any = bool(self._ended)
        self._ended.clear()
        return had_any

    def _end(self, job: Job) -> None:
        self._ended.insert(0, job)
        del self._ended[MAX_ENDED_JOBS:]


def _moved(job: Job, state: JobState, **changes: Any) -> Job:  # noqa: ANN401 - fields of Job
    if state not in LEGAL_TRANSITIONS[job.state]:
        raise ValueError(f"a job that is {job.state.value} cannot become {state.value}")
    return replace(job, state=state, **changes)
