"""Images that a run puts off: they become a job of their own."""

from dataclasses import replace

from app.core.events import ImagesDeferred
from app.core.jobs import Job, JobState


def deferred_job(job: Job, event: ImagesDeferred) -> Job | None:
    """The job for a job's images from `first_index` on; None when there is nothing to put off.

    Seeds, names and everything else are those that the images would have had. The id follows from
    the job's, so that an engine which puts off the same images again adds no second job.
    """
    first = event.first_index
    images = job.request.images - first
    if first <= 0 or images <= 0:
        return None
    saved = tuple(index - first for index in job.saved if index >= first)
    if len(saved) == images:
        return None
    return replace(
        job,
        id=f"{job.id}-from-{first + job.output.first_index}",
        request=replace(job.request, seed=job.request.seed_of(first), images=images),
        output=replace(job.output, first_index=job.output.first_index + first),
        state=JobState.QUEUED,
        saved=saved,
        attempts=0,
        error=None,
    )


def kept_job(job: Job, event: ImagesDeferred) -> Job:
    """What is left of the job: run anew, it must not make or put off those images again."""
    first = event.first_index
    return replace(
        job,
        request=replace(job.request, images=first),
        saved=tuple(index for index in job.saved if index < first),
    )
