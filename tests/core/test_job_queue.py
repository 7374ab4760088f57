"""The queue's order and the states of its jobs."""

import pytest

from app.core.errors import ErrorInfo
from app.core.job_queue import MAX_ENDED_JOBS, JobQueue
from app.core.jobs import Job, JobState, OutputTarget
from app.core.request import GenerationRequest


def make_job(name: str) -> Job:
    return Job(
        id=name,
        request=GenerationRequest(prompt="p"),
        model_folder="/m",
        output=OutputTarget(folder="/f"),
    )


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue(tuple(make_job(name) for name in "abc"))


def order(queue: JobQueue) -> str:
    return "".join(job.id for job in queue.snapshot())


def test_the_first_waiting_job_is_taken_and_only_one(queue: JobQueue) -> None:
    taken = queue.take_next()
    assert taken is not None
    assert (taken.id, taken.state) == ("a", JobState.RUNNING)
    assert queue.take_next() is None
    assert [job.id for job in queue.waiting] == ["b", "c"]


def test_an_empty_queue_has_nothing_to_take() -> None:
    assert JobQueue().take_next() is None


def test_a_known_id_is_not_added_wherever_the_job_is(queue: JobQueue) -> None:
    queue.take_next()
    queue.end_running(JobState.FINISHED)
    queue.take_next()
    assert [queue.add(make_job(name)) for name in "abcd"] == [False, False, False, True]


def test_a_requeued_job_is_next_again(queue: JobQueue) -> None:
    queue.take_next()
    queue.requeue_running(attempts=2)
    assert order(queue) == "abc"
    assert queue.waiting[0].attempts == 2
    assert queue.waiting[0].state is JobState.QUEUED


def test_unfinished_is_the_running_and_the_waiting_as_queued(queue: JobQueue) -> None:
    queue.take_next()
    queue.end_running(JobState.FAILED, error=ErrorInfo(code="x", message="y"))
    queue.take_next()
    queue.mark_saved(1)
    queue.mark_saved(1)
    unfinished = queue.unfinished()
    assert [(job.id, job.state, job.saved) for job in unfinished] == [
        ("b", JobState.QUEUED, (1,)),
        ("c", JobState.QUEUED, ()),
    ]


def test_without_a_running_job_its_changes_do_nothing(queue: JobQueue) -> None:
    before = queue.snapshot()
    queue.mark_saved(0)
    queue.requeue_running(attempts=1)
    queue.end_running(JobState.FINISHED)
    assert queue.snapshot() == before


def test_a_running_job_is_not_removed_moved_or_cancelled_as_waiting(queue: JobQueue) -> None:
    queue.take_next()
    assert not queue.remove("a")
    assert not queue.move("a", 1)
    assert not queue.cancel_waiting("a")


def test_a_transition_that_is_not_legal_is_refused(queue: JobQueue) -> None:
    queue.take_next()
    with pytest.raises(ValueError, match="cannot become running"):
        queue.end_running(JobState.RUNNING)


def test_the_oldest_ended_jobs_are_forgotten() -> None:
    queue = JobQueue(tuple(make_job(str(number)) for number in range(MAX_ENDED_JOBS + 3)))
    while queue.take_next() is not None:
        queue.end_running(JobState.FINISHED)
    ended = queue.snapshot()
    assert len(ended) == MAX_ENDED_JOBS
    assert (ended[0].id, ended[-1].id) == (str(MAX_ENDED_JOBS + 2), "3")
    assert queue.clear_ended()
    assert not queue.clear_ended()


@pytest.mark.parametrize(
    ("index", "expected"), [(-5, "cab"), (0, "cab"), (1, "acb"), (2, "abc"), (9, "abc")]
)
def test_move_clamps_its_index_and_tells_whether_it_changed(
    queue: JobQueue, index: int, expected: str
) -> None:
    assert queue.move("c", index) == (expected != "abc")
    assert order(queue) == expected


def test_a_rerun_job_is_running_again_with_its_attempts(queue: JobQueue) -> None:
    queue.take_next()
    queue.rerun(attempts=1)
    assert queue.running is not None
    assert (queue.running.id, queue.running.attempts) == ("a", 1)
    assert order(queue) == "abc"


def test_a_waiting_job_that_is_cancelled_is_among_the_ended(queue: JobQueue) -> None:
    assert queue.cancel_waiting("b")
    assert not queue.cancel_waiting("b")
    assert [job.id for job in queue.waiting] == ["a", "c"]
    assert queue.snapshot()[-1].state is JobState.CANCELLED


def test_waiting_and_ended_jobs_are_removed(queue: JobQueue) -> None:
    queue.cancel_waiting("b")
    assert queue.remove("a")
    assert queue.remove("b")
    assert not queue.remove("b")
    assert order(queue) == "c"
