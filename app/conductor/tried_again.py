"""A job that is tried once more."""

import uuid
from collections.abc import Container
from dataclasses import replace

from app.core.jobs import Job, JobState
from app.engine.kept_runs import id_of_try


def once_more(job: Job, taken: Container[str], *, wait_s: float) -> Job:
    """The job to do again; one that lacked memory goes on where it was, others begin anew.

    Args:
        job: That has ended.
        taken: Ids of other jobs.
        wait_s: How long it may wait for memory that other programs hold.
    """
    goes_on = job.lacked_memory
    return replace(
        job,
        id=id_of_try(job.id, taken) if goes_on else uuid.uuid4().hex,
        state=JobState.QUEUED,
        wait_s=wait_s,
        saved=job.saved if goes_on else (),
        attempts=0,
        error=None,
    )
