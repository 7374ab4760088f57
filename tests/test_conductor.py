"""The conductor with a scripted engine: every order of events that matters, without a process."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.conductor import MAX_ATTEMPTS, Conductor
from app.core.atomic import PARTIAL_PREFIX, PARTIAL_SUFFIX
from app.core.errors import ErrorInfo
from app.core.events import (
    ConductorEvent,
    Converting,
    EngineLog,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    PhaseFinished,
    PhaseStarted,
    QueueChanged,
    StepDone,
)
from app.core.jobs import JobState, OutputTarget, Phase
from app.core.paths import app_paths
from app.core.policy import Precision
from app.core.queue_store import QueueStore
from app.engine import session
from app.engine.client import EngineEnded
from app.engine.protocol import BROKEN_DEVICE_EXIT, CancelJob, RunJob, Shutdown
from app.engine.session import CANCEL_DEADLINE_S, HELLO_DEADLINE_S, READY_DEADLINE_S
from tests.fakes.conductor_stage import Stage, ids, make_job
from tests.fakes.engine import HELLO, MEMORY, FakeEngines, events_of_run, finish_at_once


@pytest.fixture
def stage() -> Stage:
    return Stage(FakeEngines())


def test_no_engine_is_started_before_the_first_job(stage: Stage) -> None:
    assert stage.engines.started == []
    assert stage.events == [QueueChanged(jobs=())]


def test_a_job_runs_and_every_event_comes_in_order(stage: Stage) -> None:
    job = make_job("a")
    stage.submit(job)
    stage.say(*events_of_run(job))
    engine_events = [
        event
        for event in stage.events
        if isinstance(event, PhaseStarted | PhaseFinished | StepDone | ImageDone | JobFinished)
    ]
    assert engine_events == events_of_run(job)
    assert stage.states == [
        EngineState.STARTING,
        EngineState.BUSY,
        EngineState.READY,
    ]
    queues = [
        [one.state for one in event.jobs] for event in stage.events if type(event) is QueueChanged
    ]
    assert queues == [
        [],
        [JobState.QUEUED],
        [JobState.RUNNING],
        [JobState.RUNNING],
        [JobState.FINISHED],
    ]
    assert stage.jobs[0].saved == (0,)
    assert stage.of(EngineReady)


def test_jobs_run_one_at_a_time_in_order_on_one_engine(stage: Stage) -> None:
    a, b = make_job("a"), make_job("b")
    stage.submit(a, b)
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]
    stage.say(*events_of_run(a))
    assert ids(tuple(stage.engines.last.jobs)) == ["a", "b"]
    stage.say(*events_of_run(b))
    assert len(stage.engines.started) == 1
    assert ids(stage.jobs) == ["b", "a"], "ended ones come newest first"


def test_a_job_is_given_only_to_a_ready_engine() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    assert stage.engines.last.jobs == []
    assert stage.jobs[0].state is JobState.RUNNING
    stage.engines.last.get_ready()
    stage.do()
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]


def test_warm_up_starts_one_engine_and_the_job_finds_it_ready(stage: Stage) -> None:
    stage.do(stage.conductor.warm_up, stage.conductor.warm_up)
    assert stage.states == [EngineState.STARTING, EngineState.READY]
    stage.submit(make_job("a"))
    assert len(stage.engines.started) == 1


def test_submit_in_front_runs_next(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    stage.do(lambda: stage.conductor.submit(make_job("c"), front=True))
    assert ids(stage.jobs) == ["a", "c", "b"]


def test_the_same_id_is_queued_once(stage: Stage, expect_log: Callable[..., None]) -> None:
    expect_log("is not queued")
    stage.submit(make_job("a"), make_job("a"))
    assert ids(stage.jobs) == ["a"]


def test_a_job_that_has_ended_is_not_queued(stage: Stage, expect_log: Callable[..., None]) -> None:
    expect_log("is not queued")
    stage.submit(replace(make_job("a"), state=JobState.FINISHED))
    assert stage.jobs == ()


@pytest.mark.parametrize(
    ("to_index", "order"),
    [(0, ["run", "c", "a", "b"]), (1, ["run", "a", "c", "b"]), (99, ["run", "a", "b", "c"])],
)
def test_waiting_jobs_are_reordered(stage: Stage, to_index: int, order: list[str]) -> None:
    stage.submit(*(make_job(name) for name in ("run", "a", "b", "c")))
    stage.do(lambda: stage.conductor.move("c", to_index))
    assert ids(stage.jobs) == order


def test_running_and_unknown_jobs_are_not_moved(stage: Stage) -> None:
    stage.submit(make_job("run"), make_job("a"))
    before = len(stage.events)
    stage.do(lambda: stage.conductor.move("run", 1), lambda: stage.conductor.move("x", 0))
    assert len(stage.events) == before


def test_remove_forgets_waiting_and_ended_jobs(stage: Stage) -> None:
    a = make_job("a")
    stage.submit(a, make_job("b"), make_job("c"))
    stage.say(*events_of_run(a))
    stage.do(lambda: stage.conductor.remove("a"), lambda: stage.conductor.remove("c"))
    assert ids(stage.jobs) == ["b"]


def test_remove_of_a_running_job_cancels_and_then_forgets_it(stage: Stage) -> None:
    stage.run_until(Phase.DENOISE)
    stage.do(lambda: stage.conductor.remove("a"))
    assert stage.engines.last.cancelled == ["a"]
    stage.say(JobCancelled(job_id="a"))
    assert stage.jobs == ()


def test_clear_ended_keeps_the_others(stage: Stage) -> None:
    a = make_job("a")
    stage.submit(a, make_job("b"), make_job("c"))
    stage.say(*events_of_run(a))
    stage.do(stage.conductor.clear_ended)
    assert ids(stage.jobs) == ["b", "c"]


def test_pause_lets_the_running_job_end_and_begins_no_other(stage: Stage) -> None:
    a, b = make_job("a"), make_job("b")
    stage.submit(a, b)
    stage.do(lambda: stage.conductor.set_paused(True))
    stage.say(*events_of_run(a))
    assert stage.queue.paused
    assert [job.state for job in stage.jobs] == [JobState.QUEUED, JobState.FINISHED]
    stage.do(lambda: stage.conductor.set_paused(False))
    assert not stage.queue.paused
    assert stage.jobs[0].state is JobState.RUNNING


def test_a_failed_job_tells_why_and_the_queue_goes_on(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    error = ErrorInfo(code="engine.out_of_memory", message="Too little memory.")
    stage.say(JobFailed(job_id="a", error=error))
    assert stage.jobs[1].state is JobState.FAILED
    assert stage.jobs[1].error == error
    assert ids(tuple(stage.engines.last.jobs)) == ["a", "b"]


def test_an_image_that_could_not_be_saved_is_not_noted_as_saved(stage: Stage) -> None:
    stage.submit(make_job("a", images=2))
    problem = ErrorInfo(code="output.disk_full", message="The disk is full.")
    stage.say(ImageDone(job_id="a", index=0, seed=0, path=None, problem=problem, png=b"png"))
    stage.say(ImageDone(job_id="a", index=1, seed=1, path="/pictures/1.png"))
    assert stage.jobs[0].saved == (1,)


# Cancel, in every phase.


def test_cancel_of_a_waiting_job_ends_it(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    stage.do(lambda: stage.conductor.cancel("b"))
    assert [(job.id, job.state) for job in stage.jobs] == [
        ("a", JobState.RUNNING),
        ("b", JobState.CANCELLED),
    ]
    assert stage.of(JobCancelled) == [JobCancelled(job_id="b")]


def test_cancel_while_the_engine_starts_is_answered_at_once_and_the_engine_goes_on() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    stage.do(lambda: stage.conductor.cancel("a"))
    assert stage.jobs[0].state is JobState.CANCELLED
    assert stage.of(JobCancelled) == [JobCancelled(job_id="a")]
    stage.engines.last.get_ready()
    stage.do()
    assert stage.engines.last.jobs == []
    assert stage.states == [EngineState.STARTING, EngineState.READY]


def test_cancel_before_the_first_word_of_a_new_engine_ends_it_at_once(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    first = stage.engines.last
    stage.do(lambda: stage.conductor.cancel("a"))
    assert first.ended_by == "kill"
    assert first.cancelled == []
    assert stage.of(JobCancelled) == [JobCancelled(job_id="a")]
    assert {job.id: job.state for job in stage.jobs} == {
        "a": JobState.CANCELLED,
        "b": JobState.RUNNING,
    }
    assert stage.engines.last is not first
    assert ids(tuple(stage.engines.last.jobs)) == ["b"]


def test_cancel_before_the_first_word_of_a_later_job_asks_the_engine(stage: Stage) -> None:
    a = make_job("a")
    stage.submit(a, make_job("b"))
    stage.say(*events_of_run(a))
    stage.do(lambda: stage.conductor.cancel("b"))
    assert stage.engines.last.cancelled == ["b"]
    stage.say(JobCancelled(job_id="b"))
    assert stage.jobs[0].state is JobState.CANCELLED
    assert stage.engines.last.alive


@pytest.mark.parametrize("phase", Phase)
def test_cancel_in_any_phase_asks_the_engine_and_keeps_it(stage: Stage, phase: Phase) -> None:
    stage.run_until(phase)
    stage.do(lambda: stage.conductor.cancel("a"))
    assert stage.engines.last.cancelled == ["a"]
    assert stage.jobs[0].state is JobState.RUNNING
    stage.say(JobCancelled(job_id="a"))
    assert stage.jobs[0].state is JobState.CANCELLED
    assert stage.of(JobCancelled) == [JobCancelled(job_id="a")]
    stage.clock.advance(10 * CANCEL_DEADLINE_S)
    stage.do()
    assert stage.engines.last.alive, "an engine that has answered has no deadline"
    assert stage.states[-1] is EngineState.READY


def test_an_engine_that_does_not_answer_while_loading_is_ended(stage: Stage) -> None:
    job = make_job("a")
    stage.submit(job, make_job("b"))
    stage.say_until(job, Phase.LOAD)
    first = stage.engines.last
    stage.do(lambda: stage.conductor.cancel("a"))
    stage.clock.advance(CANCEL_DEADLINE_S - 0.1)
    stage.say(
        Converting(
            job_id="a",
            component="transformer",
            precision=Precision.NF4,
            done_bytes=1,
            total_bytes=2,
        )
    )
    assert first.alive
    assert stage.of(JobCancelled) == []
    stage.clock.advance(0.1)
    stage.do()
    assert first.ended_by == "kill"
    stage.do()  # The next engine has said that it is ready.
    assert stage.of(JobCancelled) == [JobCancelled(job_id="a")]
    assert {job.id: job.state for job in stage.jobs} == {
        "a": JobState.CANCELLED,
        "b": JobState.RUNNING,
    }
    assert ids(tuple(stage.engines.last.jobs)) == ["b"]
    assert EngineState.RESTARTING not in stage.states


def test_the_loop_wakes_when_no_answer_has_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real loop with the real clock: nothing else wakes it.
    monkeypatch.setattr(session, "CANCEL_DEADLINE_S", 0.05)
    over = threading.Event()

    def emit(event: ConductorEvent) -> None:
        if isinstance(event, PhaseStarted):
            conductor.cancel("a")
        elif isinstance(event, JobCancelled):
            over.set()

    engines = FakeEngines(
        on_run=lambda client, job: client.say(PhaseStarted(job_id=job.id, phase=Phase.LOAD))
    )
    conductor = Conductor(start_engine=engines, store=None, emit=emit)
    thread = threading.Thread(target=conductor.run)
    thread.start()
    try:
        conductor.submit(make_job("a"))
        assert over.wait(60)
        assert engines.last.cancelled == ["a"]
        assert engines.last.ended_by == "kill"
    finally:
        conductor.shutdown()
        thread.join()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.LOAD])
def test_after_loading_a_cancel_may_take_as_long_as_a_block(stage: Stage, phase: Phase) -> None:
    stage.run_until(phase)
    stage.do(lambda: stage.conductor.cancel("a"))
    stage.clock.advance(10 * CANCEL_DEADLINE_S)
    stage.do()
    assert stage.engines.last.alive
    assert stage.jobs[0].state is JobState.RUNNING


def test_an_engine_that_has_loaded_meanwhile_answers_in_its_time(stage: Stage) -> None:
    stage.run_until(Phase.LOAD)
    stage.do(lambda: stage.conductor.cancel("a"))
    stage.say(PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1.0, memory=MEMORY))
    stage.clock.advance(10 * CANCEL_DEADLINE_S)
    stage.do()
    assert stage.engines.last.alive
    stage.say(JobCancelled(job_id="a"))
    assert stage.jobs[0].state is JobState.CANCELLED


@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.DENOISE])
def test_a_second_cancel_kills_an_engine_that_does_not_answer(stage: Stage, phase: Phase) -> None:
    stage.run_until(phase)
    stage.do(lambda: stage.conductor.cancel("a"), lambda: stage.conductor.cancel("a"))
    assert stage.engines.last.ended_by == "kill"
    assert stage.jobs[0].state is JobState.CANCELLED
    assert stage.states[-1] is EngineState.STOPPED


def test_a_job_that_finished_before_the_cancel_arrived_is_finished(stage: Stage) -> None:
    stage.run_until(Phase.SAVE)
    stage.do(lambda: stage.conductor.cancel("a"))
    stage.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    assert stage.jobs[0].state is JobState.FINISHED
    assert stage.of(JobCancelled) == []


def test_an_engine_that_dies_after_cancel_leaves_the_job_cancelled(stage: Stage) -> None:
    stage.run_until(Phase.DENOISE)
    stage.do(lambda: stage.conductor.cancel("a"))
    stage.die()
    assert stage.jobs[0].state is JobState.CANCELLED
    assert len(stage.engines.started) == 1


def test_cancel_of_an_unknown_job_changes_nothing(stage: Stage) -> None:
    stage.submit(make_job("a"))
    before = len(stage.events)
    stage.do(lambda: stage.conductor.cancel("x"))
    assert len(stage.events) == before


# Death of the engine, in every phase.


@pytest.mark.parametrize("phase", [None, *Phase])
def test_the_engine_dies_in_any_phase_and_the_job_runs_again_and_finishes(
    stage: Stage, phase: Phase | None
) -> None:
    job = make_job("a")
    stage.submit(job, make_job("b"))
    if phase is not None:
        stage.say_until(job, phase)
    stage.die()
    assert len(stage.engines.started) == 2
    again = stage.engines.last.jobs[0]
    assert (again.id, again.attempts, again.state) == ("a", 1, JobState.RUNNING)
    assert EngineState.RESTARTING in stage.states
    assert "SIGKILL" in stage.reasons[-1]
    assert "out of memory" in stage.reasons[-1]
    assert stage.reasons[-1].endswith("a new one is started and the job runs again.")
    stage.say(*events_of_run(again))
    assert {job.id: job.state for job in stage.jobs} == {
        "a": JobState.FINISHED,
        "b": JobState.RUNNING,
    }


def test_a_gpu_that_is_gone_is_told_and_nothing_goes_on_for_hours_on_the_cpu(
    expect_log: Callable[..., None],
) -> None:
    expect_log("Fake GPU is not there any more")
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"), make_job("b"))
    stage.do(lambda: stage.engines.last.get_ready(device="cuda:0"))
    stage.die()
    # What the next engine finds.
    stage.do(lambda: stage.engines.last.get_ready(device="cpu"))
    assert not stage.engines.last.jobs
    assert {job.id: job.state for job in stage.jobs} == {
        "a": JobState.FAILED,
        "b": JobState.QUEUED,
    }
    assert stage.queue.paused
    (failed,) = stage.of(JobFailed)
    assert "restart the computer" in failed.error.message
    # Who goes on means it.
    stage.do(lambda: stage.conductor.set_paused(False))
    assert [job.id for job in stage.engines.last.jobs] == ["b"]


def test_the_cpu_goes_on_where_it_was_chosen_before_the_engine_died() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    stage.do(lambda: stage.engines.last.get_ready(device="cuda:0"), stage.conductor.renew_engine)
    stage.die()
    stage.do(lambda: stage.engines.last.get_ready(device="cpu"))
    assert [job.id for job in stage.engines.last.jobs] == ["a"]
    assert not stage.of(JobFailed)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_device_that_is_there_still_goes_on(device: str) -> None:
    stage = Stage(FakeEngines(device=device))
    stage.submit(make_job("a"))
    stage.die()
    assert [job.id for job in stage.engines.last.jobs] == ["a"]
    assert not stage.of(JobFailed)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.LOAD, "while loading the model"),
        (Phase.ENCODE, "while reading the prompt"),
        (Phase.DENOISE, "while denoising"),
        (Phase.DECODE, "while decoding"),
        (Phase.SAVE, "while saving"),
    ],
)
def test_the_reason_names_the_phase_and_the_exit_code(
    stage: Stage, phase: Phase, words: str
) -> None:
    stage.run_until(phase)
    stage.die(exit_code=3)
    assert words in stage.reasons[-1]
    assert "exit code 3" in stage.reasons[-1]


def test_windows_crashes_are_named_by_their_hexadecimal_code(stage: Stage) -> None:
    stage.submit(make_job("a"))
    stage.die(exit_code=0xC0000005)
    assert "0xC0000005" in stage.reasons[-1]


def test_saved_images_are_not_asked_for_again(stage: Stage) -> None:
    job = make_job("a", images=3)
    stage.submit(job)
    for index in (0, 1):
        stage.say(ImageDone(job_id="a", index=index, seed=index, path=f"/pictures/{index}.png"))
    stage.die()
    again = stage.engines.last.jobs[0]
    assert again.saved == (0, 1)
    stage.say(*events_of_run(again))
    images = [event.index for event in stage.of(ImageDone)]
    assert images == [0, 1, 2]


def test_a_job_that_kills_the_engine_three_times_fails_and_the_queue_goes_on(
    stage: Stage,
) -> None:
    stage.submit(make_job("a"), make_job("b"))
    for _ in range(MAX_ATTEMPTS):
        stage.die(exit_code=-11)
    failed = next(job for job in stage.jobs if job.id == "a")
    assert failed.state is JobState.FAILED
    assert failed.attempts == MAX_ATTEMPTS
    assert failed.error is not None
    assert failed.error.code == "engine.crashed"
    assert "SIGSEGV" in failed.error.message
    assert failed.error.details == "last words"
    assert stage.of(JobFailed) == [JobFailed(job_id="a", error=failed.error)]
    assert len(stage.engines.started) == MAX_ATTEMPTS + 1
    assert ids(tuple(stage.engines.last.jobs)) == ["b"]


def test_a_paused_queue_still_reruns_the_job_that_was_running(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    stage.do(lambda: stage.conductor.set_paused(True))
    stage.die()
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]


def test_an_idle_engine_that_dies_is_replaced_with_the_next_job(stage: Stage) -> None:
    a = make_job("a")
    stage.submit(a)
    stage.say(*events_of_run(a))
    stage.die(exit_code=1)
    assert stage.states[-1] is EngineState.STOPPED
    assert "with the next job" in stage.reasons[-1]
    stage.submit(make_job("b"))
    assert len(stage.engines.started) == 2
    assert ids(tuple(stage.engines.last.jobs)) == ["b"]


def test_events_of_a_dead_engine_and_of_ended_jobs_are_ignored(stage: Stage) -> None:
    job = make_job("a")
    stage.submit(job)
    dead = stage.engines.last
    stage.die()
    dead.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY), EngineEnded(exit_code=0))
    stage.do()
    assert stage.jobs[0].state is JobState.RUNNING
    stage.say(*events_of_run(job))
    before = len(stage.events)
    stage.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    stage.say(PhaseStarted(job_id="other", phase=Phase.LOAD))
    assert len(stage.events) == before


def test_a_broken_message_restarts_the_engine_with_its_sentence(stage: Stage) -> None:
    stage.submit(make_job("a"))
    error = ErrorInfo(code="engine.protocol", message="The engine sent nonsense.")
    stage.say(EngineEnded(exit_code=-9, error=error))
    assert stage.reasons[-1].startswith("The engine sent nonsense; a new one")
    assert len(stage.engines.started) == 2


def test_another_version_of_the_engine_fails_the_job_at_once(stage: Stage) -> None:
    stage.submit(make_job("a"))
    error = ErrorInfo(code="engine.version", message="Of different versions.")
    stage.say(EngineEnded(exit_code=-9, error=error))
    assert stage.jobs[0].state is JobState.FAILED
    assert stage.jobs[0].error is not None
    assert stage.jobs[0].error.code == "engine.version"
    assert len(stage.engines.started) == 1


def test_an_engine_that_says_why_it_cannot_start_fails_the_job_with_its_sentence(
    expect_log: Callable[..., None],
) -> None:
    expect_log("no such device", logger="engine", level="CRITICAL")
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    stage.say(
        HELLO, EngineLog(level=50, logger="app.engine", message="There is no such device.\nDetails")
    )
    stage.die(exit_code=1)
    assert len(stage.engines.started) == 1
    error = stage.jobs[0].error
    assert error is not None
    assert (error.code, error.message) == ("engine.setup", "There is no such device.")
    assert error.details == "Details\nlast words"


def test_a_gpu_that_stops_working_is_told_and_tried_with_another_engine(
    expect_log: Callable[..., None],
) -> None:
    expect_log("stopped working", logger="engine", level="CRITICAL")
    stage = Stage(FakeEngines(device="cuda:0"))
    stage.submit(make_job("a"))
    words = "Fake GPU stopped working: CUDA error: unspecified launch failure."
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert stage.engines.last.jobs
        stage.say(EngineLog(level=50, logger="app.engine.worker", message=words))
        stage.die(exit_code=BROKEN_DEVICE_EXIT)
        if attempt < MAX_ATTEMPTS:
            assert stage.reasons[-1] == (
                f"{words.rstrip('.')}; a new one is started and the job runs again."
            )
    error = stage.jobs[0].error
    assert error is not None
    assert error.message.startswith(f"{words.rstrip('.')}, {MAX_ATTEMPTS} times on this job: ")
    assert "restart the computer" in error.message


def test_an_engine_without_a_library_is_not_started_again_though_it_was_ready(
    expect_log: Callable[..., None],
) -> None:
    expect_log("cannot be imported", logger="engine", level="CRITICAL")
    stage = Stage(FakeEngines())
    stage.submit(make_job("a"))
    words = "torch or diffusers cannot be imported: install Headroom again"
    stage.say(EngineLog(level=50, logger="app.engine.worker", message=words))
    stage.die(exit_code=1)
    assert len(stage.engines.started) == 1
    error = stage.jobs[0].error
    assert error is not None
    assert (error.code, error.message) == ("engine.setup", words)


def test_an_engine_that_cannot_be_started_fails_the_job_with_the_reason() -> None:
    engines = FakeEngines()
    engines.failures = [OSError(12, "Cannot allocate memory")] * MAX_ATTEMPTS
    stage = Stage(engines)
    stage.submit(make_job("a"))
    assert stage.jobs[0].state is JobState.FAILED
    assert stage.jobs[0].error is not None
    assert stage.jobs[0].error.code == "engine.start"
    assert "Cannot allocate memory" in stage.jobs[0].error.message


def test_one_failed_start_is_tried_again() -> None:
    engines = FakeEngines(on_run=finish_at_once)
    engines.failures = [OSError(11, "Resource temporarily unavailable")]
    stage = Stage(engines)
    stage.submit(make_job("a"))
    assert stage.jobs[0].state is JobState.FINISHED


@pytest.mark.parametrize("said_hello", [False, True])
def test_a_start_that_hangs_is_ended_after_its_deadline(said_hello: bool) -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    hung = stage.engines.last
    deadline_s = HELLO_DEADLINE_S
    if said_hello:
        stage.say(HELLO)
        deadline_s = READY_DEADLINE_S
    stage.clock.advance(deadline_s - 1)
    stage.do()
    assert hung.alive
    stage.clock.advance(1)
    stage.do()
    assert hung.ended_by == "kill"
    assert "did not start in time" in stage.reasons[-1]
    stage.engines.last.get_ready()
    stage.do()
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]
    stage.clock.advance(10 * READY_DEADLINE_S)
    stage.do()
    assert stage.engines.last.alive, "a ready engine has no deadline"


def test_what_a_killed_engine_left_half_written_is_removed(tmp_path: Path, stage: Stage) -> None:
    # No process has this number: Linux gives out at most 2**22.
    partial = tmp_path / f"{PARTIAL_PREFIX}99999999-abc{PARTIAL_SUFFIX}"
    partial.write_bytes(b"half")
    job = replace(make_job("a"), output=OutputTarget(folder=str(tmp_path)))
    stage.submit(job)
    stage.die()
    assert not partial.exists()


@pytest.mark.parametrize("end", ["second cancel", "no answer", "death"])
def test_weights_that_a_killed_engine_had_half_converted_are_removed(
    stage: Stage, end: str
) -> None:
    folder = app_paths().converted_folder
    folder.mkdir(parents=True)
    partial = folder / f"{PARTIAL_PREFIX}99999999-abc{PARTIAL_SUFFIX}"
    stage.run_until(Phase.LOAD)
    partial.write_bytes(b"half")
    if end == "death":
        stage.die()
    else:
        stage.do(lambda: stage.conductor.cancel("a"))
        assert partial.exists(), "it is being written"
        if end == "no answer":
            stage.clock.advance(CANCEL_DEADLINE_S)
            stage.do()
        else:
            stage.do(lambda: stage.conductor.cancel("a"))
    assert not partial.exists()


def test_engine_logs_are_passed_on_and_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.do(stage.conductor.warm_up)
    with caplog.at_level("INFO", logger="engine"):
        stage.say(EngineLog(level=20, logger="app.engine.loader", message="hello"))
    assert stage.of(EngineLog)
    assert [(one.name, one.message) for one in caplog.records] == [
        ("engine.app.engine.loader", "hello")
    ]


# Shutdown and restart.


def test_shutdown_of_an_idle_engine_asks_it_to_end(stage: Stage) -> None:
    stage.do(stage.conductor.warm_up)
    stage.do(stage.conductor.shutdown, stage.conductor.shutdown)
    assert stage.engines.last.commands == [Shutdown()]
    assert stage.states[-1] is EngineState.STOPPED


def test_shutdown_while_the_engine_starts_does_not_wait_for_it() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.do(stage.conductor.warm_up, stage.conductor.shutdown)
    assert stage.engines.last.ended_by == "kill"


def test_shutdown_during_a_run_keeps_the_job_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    stage = Stage(FakeEngines(), store=QueueStore(path))
    a, b = make_job("a", images=2), make_job("b")
    stage.submit(a, b)
    stage.say_until(a, Phase.SAVE)
    engine = stage.engines.last
    engine.last_words = (
        ImageDone(job_id="a", index=0, seed=0, path="/pictures/0.png"),
        JobCancelled(job_id="a"),
    )
    stage.do(stage.conductor.shutdown)
    assert engine.ended_by == "stop"
    assert engine.stop_grace_s is not None
    assert engine.stop_grace_s < 3.0
    assert stage.jobs[0].state is JobState.QUEUED
    assert stage.of(JobCancelled) == []

    stored = QueueStore(path).load()
    assert ids(stored) == ["a", "b"]
    assert stored[0].saved == (0,), "what was saved in the last moment is known"

    fresh = Stage(FakeEngines(on_run=finish_at_once), store=QueueStore(path))
    assert fresh.queue.paused
    assert ids(fresh.jobs) == ["a", "b"]
    assert fresh.engines.started == []
    fresh.do(lambda: fresh.conductor.set_paused(False))
    assert [job.state for job in fresh.jobs] == [JobState.FINISHED, JobState.FINISHED]
    assert QueueStore(path).load() == ()


def test_a_job_that_finishes_in_the_last_moment_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    stage = Stage(FakeEngines(), store=QueueStore(path))
    stage.submit(make_job("a"))
    stage.engines.last.last_words = (JobFinished(job_id="a", seconds=1.0, memory=MEMORY),)
    stage.do(stage.conductor.shutdown)
    assert QueueStore(path).load() == ()


def test_a_job_cancelled_just_before_shutdown_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    partial = tmp_path / f"{PARTIAL_PREFIX}99999999-abc{PARTIAL_SUFFIX}"
    partial.write_bytes(b"half")
    stage = Stage(FakeEngines(), store=QueueStore(path))
    job = replace(make_job("a"), output=OutputTarget(folder=str(tmp_path)))
    stage.submit(job)
    stage.say_until(job, Phase.DENOISE)
    stage.do(lambda: stage.conductor.cancel("a"), stage.conductor.shutdown)
    assert stage.jobs[0].state is JobState.CANCELLED
    assert QueueStore(path).load() == ()
    assert not partial.exists()


def test_jobs_submitted_after_shutdown_are_kept_but_not_run(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    stage = Stage(FakeEngines(), store=QueueStore(path))
    stage.do(stage.conductor.shutdown, lambda: stage.conductor.submit(make_job("late")))
    assert stage.engines.started == []
    assert ids(QueueStore(path).load()) == ["late"]


def test_run_returns_after_shutdown_and_ends_the_engine() -> None:
    engines = FakeEngines(on_run=finish_at_once)
    events: list[ConductorEvent] = []

    def emit(event: ConductorEvent) -> None:
        events.append(event)
        if isinstance(event, JobFinished):
            conductor.shutdown()

    conductor = Conductor(start_engine=engines, store=None, emit=emit)
    conductor.submit(make_job("a"))
    conductor.run()
    assert not engines.last.alive
    assert isinstance(events[-1], EngineStateChanged)
    assert events[-1].state is EngineState.STOPPED


def test_an_error_in_the_loop_is_told_and_the_loop_goes_on(
    stage: Stage, expect_log: Callable[..., None]
) -> None:
    expect_log("goes on", level="ERROR")
    stage.fail_on(lambda event: isinstance(event, PhaseStarted))
    job = make_job("a")
    stage.submit(job)
    stage.say(*events_of_run(job))
    notice = stage.of(Notice)[0]
    assert (notice.code, notice.job_id) == ("conductor.error", "")
    assert "RuntimeError" in notice.message
    assert stage.jobs[0].state is JobState.FINISHED
    stage.submit(make_job("b"))
    assert ids(tuple(stage.engines.last.jobs)) == ["a", "b"]


def test_a_loop_whose_listener_always_fails_still_ends_and_leaves_no_engine(
    expect_log: Callable[..., None],
) -> None:
    expect_log("goes on", level="ERROR")
    expect_log("cannot tell of its error", level="ERROR")
    engines = FakeEngines()

    def emit(event: ConductorEvent) -> None:
        if isinstance(event, QueueChanged):
            return
        conductor.shutdown()
        raise RuntimeError("a listener failed")

    conductor = Conductor(start_engine=engines, store=None, emit=emit)
    conductor.warm_up()
    conductor.run()
    assert not engines.last.alive


def test_a_broken_queue_file_is_set_aside_and_told(
    tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    expect_log("queue file")
    path = tmp_path / "queue.json"
    path.write_text("{ not json")
    stage = Stage(FakeEngines(), store=QueueStore(path))
    notice = stage.of(Notice)[0]
    assert notice.code == "queue.unreadable"
    assert "queue.broken.json" in notice.message
    assert (tmp_path / "queue.broken.json").read_text() == "{ not json"
    assert not stage.queue.paused


def test_a_queue_that_cannot_be_saved_is_told_once_and_the_job_runs(tmp_path: Path) -> None:
    store = QueueStore(tmp_path / "data" / "queue.json")
    stage = Stage(FakeEngines(on_run=finish_at_once), store=store)
    (tmp_path / "data").write_text("a file where the folder should be")
    stage.submit(make_job("a"))
    notices = stage.of(Notice)
    assert [one.code for one in notices] == ["queue.not_saved"]
    assert stage.jobs[0].state is JobState.FINISHED


def test_commands_are_sent_in_order(stage: Stage) -> None:
    stage.run_until(Phase.ENCODE)
    stage.do(lambda: stage.conductor.cancel("a"))
    kinds = [type(command) for command in stage.engines.last.commands]
    assert kinds == [RunJob, CancelJob]
