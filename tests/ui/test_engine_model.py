"""The engine model: events in, signals and progress out; wishes in, jobs out."""

import pytest

from app.core.errors import ErrorInfo
from app.core.events import (
    Converting,
    EngineLog,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Loading,
    Notice,
    PhaseFinished,
    PhaseStarted,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import JobState, OutputTarget, Phase
from app.core.policy import Precision
from app.core.request import GenerationRequest
from app.ui.models.engine_model import EngineModel
from tests.fakes.clock import FakeClock
from tests.fakes.job_control import FakeJobControl
from tests.ui.run_events import MEMORY, job, preview, queue, step

ERROR = ErrorInfo(code="test", message="It broke: try again.")


@pytest.fixture
def control() -> FakeJobControl:
    return FakeJobControl()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def engine(qapp, control: FakeJobControl, clock: FakeClock):
    model = EngineModel(control, clock=clock)
    yield model
    model.on_event(queue())


def collected(signal) -> list:
    values: list = []
    signal.connect(values.append)
    return values


# Wishes.


def test_generate_submits_a_job_with_everything_in_it(engine, control):
    request = GenerationRequest(prompt="a ring", seed=2**64 - 1)
    output = OutputTarget(folder="/pictures", metadata=False)
    told = collected(engine.job_submitted)
    job_id = engine.generate(
        request, model_folder="/models/demo", output=output, previews=False, front=True
    )
    (submitted, front) = control.submitted[0]
    assert front
    assert submitted.id == job_id
    assert len(job_id) == 32
    assert (submitted.request, submitted.output) == (request, output)
    assert (submitted.model_folder, submitted.previews) == ("/models/demo", False)
    assert submitted.state is JobState.QUEUED
    assert told == [submitted]
    assert engine.job(job_id) == submitted


def test_every_job_has_an_id_of_its_own(engine, control):
    for _ in range(3):
        engine.generate(
            GenerationRequest(prompt="x"),
            model_folder="/m",
            output=OutputTarget(folder="/p"),
            previews=True,
        )
    assert len({submitted.id for submitted, _ in control.submitted}) == 3


def test_retry_submits_the_same_request_as_a_new_job(engine, control):
    failed = job("a", JobState.FAILED, error="no")
    engine.on_event(queue(failed))
    new_id = engine.retry("a")
    (again, _) = control.submitted[0]
    assert again.id == new_id != "a"
    assert (again.request, again.model_folder) == (failed.request, failed.model_folder)
    assert (again.state, again.error, again.output) == (JobState.QUEUED, None, failed.output)


def test_retry_of_an_unknown_job_does_nothing(engine, control):
    assert engine.retry("nobody") is None
    assert control.submitted == []


def test_intents_reach_the_conductor(engine, control):
    engine.remove("a")
    engine.move("b", 2)
    engine.pause()
    engine.resume()
    engine.clear_ended()
    assert control.calls == [
        ("remove", "a"),
        ("move", "b", 2),
        ("set_paused", True),
        ("set_paused", False),
        ("clear_ended",),
    ]


def test_cancel_current_cancels_the_running_job_and_says_so_at_once(engine, control):
    engine.cancel_current()
    assert control.calls == []
    engine.on_event(queue(job("a"), job("b", JobState.QUEUED)))
    told = collected(engine.progress_changed)
    engine.cancel_current()
    assert control.calls == [("cancel", "a")]
    assert told[-1].cancelling


# Events.


@pytest.mark.parametrize(
    ("signal", "event"),
    [
        ("image_done", ImageDone(job_id="a", index=0, seed=1, path="/p/a.png")),
        ("job_finished", JobFinished(job_id="a", seconds=1.0, memory=MEMORY)),
        ("job_failed", JobFailed(job_id="a", error=ERROR)),
        ("job_cancelled", JobCancelled(job_id="a")),
        ("notice", Notice(job_id="a", code="prompt.cut", message="Cut.")),
        (
            "engine_ready",
            EngineReady(
                pid=1, device="cpu", device_name="CPU", torch_version="2", diffusers_version="0"
            ),
        ),
        ("engine_state_changed", EngineStateChanged(state=EngineState.READY)),
        ("queue_changed", queue(job("a"))),
    ],
)
def test_each_event_has_its_signal(engine, signal: str, event: object):
    engine.on_event(queue(job("a")))
    names = [
        "step_done",
        "image_done",
        "job_finished",
        "job_failed",
        "job_cancelled",
        "notice",
        "engine_ready",
        "engine_state_changed",
        "queue_changed",
    ]
    told = {name: collected(getattr(engine, name)) for name in names}
    engine.on_event(event)
    assert {name: values for name, values in told.items() if values} == {signal: [event]}


def test_log_events_are_not_for_the_window(engine):
    told = collected(engine.progress_changed)
    engine.on_event(EngineLog(level=20, logger="x", message="y"))
    assert told == []


def test_state_and_readiness_are_remembered(engine):
    assert (engine.engine_state, engine.ready) == (EngineState.STOPPED, None)
    ready = EngineReady(
        pid=1, device="cpu", device_name="CPU", torch_version="2", diffusers_version="0"
    )
    engine.on_event(ready)
    engine.on_event(EngineStateChanged(state=EngineState.BUSY))
    assert (engine.engine_state, engine.ready) == (EngineState.BUSY, ready)


def test_steps_are_coalesced_and_the_last_one_comes_before_the_next_phase(engine):
    engine.on_event(queue(job("a")))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    told: list[tuple[int, Phase | None]] = []

    def note(event: StepDone) -> None:
        progress = engine.progress()
        assert progress is not None
        told.append((event.step, progress.phase))

    engine.step_done.connect(note)
    for number in range(1, 9):
        engine.on_event(step(number, preview=preview()))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DECODE))
    assert told == [(1, Phase.DENOISE), (8, Phase.DENOISE)]


def test_last_step_arrives_without_further_events(engine, qtbot):
    engine.on_event(queue(job("a")))
    steps = collected(engine.step_done)
    for number in (1, 2, 3):
        engine.on_event(step(number))
    qtbot.waitUntil(lambda: [event.step for event in steps] == [1, 3])


def test_no_preview_comes_after_the_picture(engine):
    engine.on_event(queue(job("a")))
    order: list[str] = []
    engine.step_done.connect(lambda event: order.append(f"step {event.step}"))
    engine.image_done.connect(lambda _: order.append("image"))
    engine.on_event(step(1))
    engine.on_event(step(2))
    engine.on_event(ImageDone(job_id="a", index=0, seed=0, path="/a.png"))
    assert order == ["step 1", "step 2", "image"]


def test_steps_of_a_cancelled_job_are_dropped(engine):
    engine.on_event(queue(job("a")))
    steps = collected(engine.step_done)
    engine.on_event(step(1))
    engine.on_event(step(2))
    engine.on_event(JobCancelled(job_id="a"))
    engine.on_event(PhaseStarted(job_id="b", phase=Phase.LOAD))
    assert [event.step for event in steps] == [1]


# Progress.


def test_no_progress_without_a_running_job(engine):
    engine.on_event(queue(job("a", JobState.QUEUED)))
    assert engine.current_job is None
    assert engine.progress() is None


def test_progress_follows_a_run(engine, clock):
    engine.on_event(queue(job("a")))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    clock.advance(2.0)
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    clock.advance(0.5)
    engine.on_event(step(1, seconds=0.5))
    progress = engine.progress()
    assert progress.job.id == "a"
    assert (progress.phase, progress.step, progress.steps) == (Phase.DENOISE, 1, 8)
    assert progress.seconds_per_step == 0.5
    assert progress.remaining_s == pytest.approx(3.5)
    assert progress.elapsed_s == pytest.approx(2.5)
    assert not progress.cancelling


def test_remaining_time_runs_down_between_steps_and_never_below_zero(engine, clock):
    engine.on_event(queue(job("a")))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(step(7, seconds=4.0))
    clock.advance(1.0)
    assert engine.progress().remaining_s == pytest.approx(3.0)
    clock.advance(60.0)
    assert engine.progress().remaining_s == 0.0


def test_waiting_counts_down_until_it_is_over(engine, clock):
    engine.on_event(queue(job()))
    told = collected(engine.progress_changed)
    waiting = WaitingForMemory(
        job_id="a", phase=Phase.LOAD, missing_bytes=1, others_bytes=2, left_s=60.0
    )
    engine.on_event(waiting)
    assert told[-1].waiting == waiting
    clock.now_s += 12.5
    assert engine.progress().waiting_left_s == 47.5
    clock.now_s += 100
    assert engine.progress().waiting_left_s == 0
    engine.on_event(WaitedForMemory(job_id="a", seconds=12.5, enough=True))
    assert told[-1].waiting is None
    # And where it is not said to be over, as when the engine died.
    engine.on_event(waiting)
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    assert engine.progress().waiting is None


def test_jobs_of_the_window_may_wait(engine, control):
    engine.on_event(queue(job(state=JobState.FAILED)))
    engine.retry("a")
    assert control.submitted[0][0].wait_s == 60.0


def test_progress_is_told_between_events_while_a_job_runs(engine, qtbot):
    engine.on_event(queue(job("a")))
    with qtbot.waitSignal(engine.progress_changed):
        pass
    engine.on_event(queue(job("a", JobState.FINISHED)))
    assert engine.progress() is None


@pytest.mark.parametrize(
    "event",
    [
        JobFinished(job_id="a", seconds=1.0, memory=MEMORY),
        JobFailed(job_id="a", error=ERROR),
        JobCancelled(job_id="a"),
        queue(),
    ],
)
def test_progress_ends_with_the_job(engine, event):
    engine.on_event(queue(job("a")))
    told = collected(engine.progress_changed)
    engine.on_event(event)
    assert engine.current_job is None
    assert told[-1] is None


def test_taking_back_a_waiting_job_leaves_the_running_one(engine):
    engine.on_event(queue(job("a"), job("b", JobState.QUEUED)))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(step(3))
    engine.on_event(JobCancelled(job_id="b"))
    assert engine.current_job.id == "a"
    assert engine.progress().step == 3


def test_a_job_that_starts_again_counts_from_nothing(engine):
    engine.on_event(queue(job("a")))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(step(5))
    engine.on_event(EngineStateChanged(state=EngineState.RESTARTING, reason="It died."))
    progress = engine.progress()
    assert (progress.phase, progress.step) == (None, 0)
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    assert engine.progress().step == 0


def test_the_next_run_of_the_same_shape_knows_its_time_from_the_start(engine):
    engine.on_event(queue(job("a")))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(step(8, seconds=1.0))
    engine.on_event(PhaseFinished(job_id="a", phase=Phase.DECODE, seconds=2.0, memory=MEMORY))
    engine.on_event(JobFinished(job_id="a", seconds=3.0, memory=MEMORY))
    engine.on_event(queue(job("b")))
    engine.on_event(PhaseStarted(job_id="b", phase=Phase.DENOISE))
    assert engine.progress().remaining_s == pytest.approx(10.0)


def test_first_event_of_a_job_may_come_before_the_list(engine, control):
    job_id = engine.generate(
        GenerationRequest(prompt="x"),
        model_folder="/m",
        output=OutputTarget(folder="/p"),
        previews=True,
    )
    engine.on_event(PhaseStarted(job_id=job_id, phase=Phase.LOAD))
    assert engine.current_job.id == job_id
    assert engine.current_job.state is JobState.RUNNING


def test_events_of_unknown_jobs_start_nothing(engine):
    engine.on_event(PhaseStarted(job_id="nobody", phase=Phase.LOAD))
    engine.on_event(step(1, "nobody"))
    assert engine.progress() is None


# The queue.


def test_queue_is_known(engine):
    jobs = (job("a"), job("b", JobState.QUEUED), job("c", JobState.FINISHED))
    engine.on_event(queue(*jobs, paused=True))
    assert engine.jobs == jobs
    assert [one.id for one in engine.queued_jobs] == ["b"]
    assert engine.paused


def test_jobs_from_last_time_are_counted_until_the_user_decides(engine):
    waiting = (job("a", JobState.QUEUED), job("b", JobState.QUEUED))
    engine.on_event(queue(*waiting, paused=True))
    assert engine.jobs_from_last_time == 2
    engine.resume()
    engine.on_event(queue(*waiting))
    assert engine.jobs_from_last_time == 0
    engine.pause()
    engine.on_event(queue(*waiting, paused=True))
    assert engine.jobs_from_last_time == 0


def test_new_job_does_not_count_among_those_from_last_time(engine):
    old = job("a", JobState.QUEUED)
    engine.on_event(queue(old, paused=True))
    new = engine.generate(
        old.request, model_folder=old.model_folder, output=old.output, previews=True
    )
    engine.on_event(queue(old, job(new, JobState.QUEUED), paused=True))
    assert engine.jobs_from_last_time == 1


def test_quantizing_is_told_until_it_is_done(engine: EngineModel):
    def converting(done: int) -> Converting:
        return Converting(
            job_id="a",
            component="transformer",
            precision=Precision.FP8,
            done_bytes=done,
            total_bytes=10,
        )

    engine.on_event(queue(job()))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    for done, told in ((3, 3), (10, None)):
        engine.on_event(converting(done))
        progress = engine.progress()
        assert progress is not None
        found = progress.converting
        assert (None if found is None else found.done_bytes) == told
    engine.on_event(converting(5))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.ENCODE))
    progress = engine.progress()
    assert progress is not None
    assert progress.converting is None


def test_loading_is_told_in_bytes_with_the_time_the_rest_takes(engine, clock):
    def loading(done: int) -> Loading:
        return Loading(job_id="a", done_bytes=done, total_bytes=10)

    engine.on_event(queue(job()))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    told = collected(engine.progress_changed)
    engine.on_event(loading(0))
    clock.advance(4.0)
    engine.on_event(loading(4))
    assert [one.loading.done_bytes for one in told] == [0, 4]
    assert [one.bytes_left_s for one in told] == [None, 6.0]
    clock.advance(1.0)
    assert engine.progress().bytes_left_s == 5.0
    engine.on_event(loading(10))
    assert (told[-1].loading, told[-1].bytes_left_s) == (None, None)


def test_an_engine_that_died_while_loading_has_read_nothing(engine):
    engine.on_event(queue(job()))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    engine.on_event(Loading(job_id="a", done_bytes=5, total_bytes=10))
    engine.on_event(EngineStateChanged(state=EngineState.RESTARTING, reason="It died."))
    assert engine.progress().loading is None
