from app.core.events import EngineState, StepDone
from app.core.jobs import LEGAL_TRANSITIONS, Job, JobState, OutputTarget, Phase
from app.core.request import GenerationRequest


def test_every_state_has_its_transitions():
    assert set(LEGAL_TRANSITIONS) == set(JobState)


def test_ended_jobs_never_move_again():
    for state in (JobState.FINISHED, JobState.CANCELLED, JobState.FAILED):
        assert not LEGAL_TRANSITIONS[state]


def test_a_running_job_may_go_back_to_the_queue_but_not_skip_running():
    assert JobState.QUEUED in LEGAL_TRANSITIONS[JobState.RUNNING]
    assert JobState.FINISHED not in LEGAL_TRANSITIONS[JobState.QUEUED]


def test_a_new_job_waits_with_nothing_saved():
    job = Job(
        id="1",
        request=GenerationRequest(prompt="x"),
        model_folder="/m",
        output=OutputTarget(folder="/p"),
    )
    assert (job.state, job.saved, job.attempts, job.error) == (JobState.QUEUED, (), 0, None)


def test_values_of_enums_are_english_free_words_for_files_and_pipes():
    for kind in (JobState, Phase, EngineState):
        assert all(member.value == member.name.lower() for member in kind)


def test_job_and_events_are_hashable_values():
    target = OutputTarget(folder="/p")
    assert {target: 1}[OutputTarget(folder="/p")] == 1
    assert StepDone.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
