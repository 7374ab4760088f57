"""A job that is tried once more: from where it was, or from its beginning."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.conductor.tried_again import once_more
from app.core.errors import LACK_OF_MEMORY_CODES, ErrorInfo
from app.core.jobs import Job, JobState
from app.engine.kept_runs import id_of_try, kept_file, receipts_file
from tests.fakes.conductor_stage import make_job

FOLDER = Path("/runs")


def ended(state: JobState, code: str = "") -> Job:
    error = ErrorInfo(code=code, message="It failed.") if code else None
    return replace(make_job("a"), state=state, error=error, saved=(0,), attempts=2)


@pytest.mark.parametrize("code", sorted(LACK_OF_MEMORY_CODES))
def test_what_lacked_memory_goes_on_and_saves_nothing_twice(code: str):
    again = once_more(ended(JobState.FAILED, code), {"a"}, wait_s=60.0)
    assert again.id != "a"
    assert kept_file(FOLDER, again.id) == kept_file(FOLDER, "a")
    assert receipts_file(FOLDER, again.id) == receipts_file(FOLDER, "a")
    assert again.saved == (0,)
    assert (again.state, again.error, again.attempts) == (JobState.QUEUED, None, 0)
    assert again.wait_s == 60.0


@pytest.mark.parametrize(
    "job", [ended(JobState.FAILED, "engine.crashed"), ended(JobState.CANCELLED)]
)
def test_what_ended_otherwise_begins_anew(job: Job):
    again = once_more(job, {"a"}, wait_s=60.0)
    assert kept_file(FOLDER, again.id) != kept_file(FOLDER, "a")
    assert again.saved == ()
    assert again.request == job.request


def test_all_tries_of_a_job_have_ids_of_their_own_and_one_place():
    ids = ["a"]
    for _ in range(3):
        ids.append(id_of_try(ids[-1], ids))
    assert len(set(ids)) == 4
    assert len({kept_file(FOLDER, one) for one in ids}) == 1


def test_images_put_off_by_a_try_are_another_job():
    later = f"{id_of_try('a', {'a'})}-from-2"
    assert kept_file(FOLDER, later) != kept_file(FOLDER, "a")
    assert kept_file(FOLDER, id_of_try(later, {later})) == kept_file(FOLDER, later)
