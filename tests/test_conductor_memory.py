"""The conductor with a scripted engine: what it makes of samples, plans and put-off images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.conductor import FinishedRun, RunLearning
from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot, Sample
from app.core.errors import LACK_OF_MEMORY_CODES, ErrorInfo
from app.core.events import (
    Downshifted,
    EngineReady,
    EngineState,
    ImageDone,
    ImagesDeferred,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseStarted,
    PlanMade,
    RunResumed,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import JobState, OutputTarget, Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.plan import Rung
from app.core.processor import cpu_device_name
from app.core.queue_store import QueueStore
from app.core.run_report import RunReport
from app.core.units import GIB
from app.engine.client import EngineMessage
from app.engine.machine import device_profile
from app.engine.protocol import RelieveJob, Shutdown
from app.monitor.prediction import Prediction
from tests.fakes.conductor_stage import Stage, ids, make_job
from tests.fakes.engine import MEMORY, FakeEngines, events_of_run, finish_at_once
from tests.fakes.hardware import device, host, sample
from tests.fakes.memory_story import Listener, MemoryStory, make_plan, steady, stepped


class Through(Listener):
    """A story told to a conductor instead of a predictor.

    Attributes:
        asked: What the engine was asked, with the phase and step that were over by then.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._phase = Phase.LOAD
        self._steps = 0
        self.asked: list[tuple[RelieveJob, Phase, int]] = []

    def note(self, event: EngineMessage) -> None:
        if isinstance(event, PhaseStarted):
            self._phase = event.phase
        if isinstance(event, StepDone):
            self._steps = event.step
        self._stage.say(event)

    def look(self, sample: Sample) -> Prediction | None:
        self._stage.do(lambda: self._stage.conductor.note_sample(sample))
        commands = self._stage.engines.last.commands
        reliefs = [one for one in commands if isinstance(one, RelieveJob)]
        self.asked += [(one, self._phase, self._steps) for one in reliefs[len(self.asked) :]]
        return None


@pytest.fixture
def stage() -> Stage:
    return Stage(FakeEngines(device="cuda:0"))


# Samples.


def test_what_is_foreseen_is_asked_of_the_engine_within_the_step_it_is_seen_in(
    stage: Stage,
) -> None:
    stage.submit(make_job("job"))
    through = Through(stage)
    # Denoising begins at 3 s; the fifth step goes from 7 to 8 s.
    game = stepped(by_gib=2.5, at_s=7.2)
    MemoryStory(make_plan(decode_gib=9.0), game, listener=through).play()
    [(asked, phase, steps)] = through.asked
    assert (phase, steps) == (Phase.DENOISE, 4)
    assert asked.job_id == "job"
    assert asked.device_bytes > 0
    assert asked.host_bytes == 0
    assert "Another program took 2.5 GB" in asked.reason


def test_a_run_with_enough_memory_is_left_alone(stage: Stage) -> None:
    stage.submit(make_job("job"))
    through = Through(stage)
    MemoryStory(make_plan(), steady(), listener=through).play()
    assert through.asked == []


def test_samples_without_a_run_ask_nothing(stage: Stage) -> None:
    stage.do(stage.conductor.warm_up)
    full = device(used_gib=12.0)
    for number in range(10):
        now = sample(number / 10, gpu=full)
        stage.do(lambda now=now: stage.conductor.note_sample(now))
    assert stage.engines.last.commands == []


def test_samples_after_the_end_are_ignored(stage: Stage) -> None:
    stage.do(stage.conductor.shutdown)
    before = len(stage.events)
    stage.do(lambda: stage.conductor.note_sample(sample(0.0)))
    assert len(stage.events) == before


def test_a_cancelled_job_is_asked_nothing_any_more(stage: Stage) -> None:
    stage.submit(make_job("job"))
    through = Through(stage)
    stage.say(PlanMade(job_id="job", plan=make_plan()), JobCancelled(job_id="job"))
    for number in range(10):
        through.look(sample(number / 10, gpu=device(used_gib=12.0)))
    assert through.asked == []


def test_a_run_that_waits_for_memory_is_asked_for_none(stage: Stage) -> None:
    stage.submit(make_job("job"))
    through = Through(stage)
    stage.say(
        PlanMade(job_id="job", plan=make_plan()), PhaseStarted(job_id="job", phase=Phase.LOAD)
    )
    for number in range(5):
        through.look(sample(number / 10, gpu=device(used_gib=1.0, engine_gib=0.5)))
    waiting = WaitingForMemory(
        job_id="job", phase=Phase.ENCODE, missing_bytes=GIB, others_bytes=11 * GIB, left_s=60.0
    )
    stage.say(waiting)
    for number in range(10):
        through.look(sample(1 + number / 10, gpu=device(used_gib=12.0, engine_gib=0.5)))
    assert through.asked == []
    stage.say(WaitedForMemory(job_id="job", seconds=1.0, enough=False))
    for number in range(10):
        through.look(sample(2 + number / 10, gpu=device(used_gib=12.0, engine_gib=0.5)))
    assert len(through.asked) == 1


# What the engine tells of memory.


def test_plans_and_rungs_reach_the_window_as_they_are_and_the_log_in_words(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.submit(make_job("a"))
    told = [
        RunResumed(job_id="a", step=19, steps=28),
        PlanMade(job_id="a", plan=make_plan()),
        Downshifted(
            job_id="a",
            phase=Phase.DENOISE,
            step=20,
            rung=Rung.TILE,
            before="whole",
            after="tiles of 512 px",
            reason="Another program took 2.1 GB.",
            foreseen=True,
        ),
    ]
    with caplog.at_level("INFO", logger="app.conductor"):
        stage.say(*told)
    assert [one for one in stage.events if one in told] == told
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "goes on after step 19 of 28" in text
    assert "fits: 1 image(s) of 1024x1024" in text
    assert "decoded in smaller pieces (whole → tiles of 512 px). Another program took" in text


# Images that are put off.


def deferred(job_id: str, first_index: int, images: int) -> ImagesDeferred:
    return ImagesDeferred(
        job_id=job_id, first_index=first_index, images=images, reason="RAM is short."
    )


def test_images_put_off_are_the_next_job(stage: Stage) -> None:
    job = replace(
        make_job("a", images=5), output=OutputTarget(folder="/nowhere/pictures", file="/out/x.png")
    )
    stage.submit(job, make_job("b"))
    stage.say(deferred("a", 2, 3))
    assert ids(stage.jobs) == ["a", "a-from-2", "b"]
    first, later = stage.jobs[:2]
    assert first.request == replace(job.request, images=2)
    assert later.request == replace(job.request, seed=job.request.seed_of(2), images=3)
    assert later.state is JobState.QUEUED
    assert (later.model_folder, later.policy) == (job.model_folder, job.policy)
    assert later.output == replace(job.output, first_index=2), "names count on"
    stage.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    assert ids(tuple(stage.engines.last.jobs)) == ["a", "a-from-2"]


def test_images_put_off_twice_are_queued_once(stage: Stage) -> None:
    stage.submit(make_job("a", images=6))
    stage.say(deferred("a", 4, 2))
    stage.die()
    again = stage.engines.last.jobs[0]
    assert again.request.images == 4
    stage.say(deferred("a", 1, 3))
    assert [(job.id, job.request.seed, job.request.images) for job in stage.jobs] == [
        ("a", 0, 1),
        ("a-from-1", 1, 3),
        ("a-from-4", 4, 2),
    ]


def test_a_job_that_was_put_off_can_put_off_in_turn(stage: Stage) -> None:
    stage.submit(make_job("a", images=6))
    stage.say(deferred("a", 2, 4), JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
    stage.say(deferred("a-from-2", 1, 3))
    later = stage.jobs[1]
    assert (later.id, later.request.seed, later.request.images) == ("a-from-2-from-3", 3, 3)
    assert later.output.first_index == 3


def test_images_put_off_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    stage = Stage(FakeEngines(), store=QueueStore(path))
    stage.submit(make_job("a", images=5))
    stage.say(deferred("a", 2, 3))
    stage.say(ImageDone(job_id="a", index=0, seed=0, path="/pictures/0.png"))
    stored = QueueStore(path).load()
    assert [(job.id, job.request.images, job.saved) for job in stored] == [
        ("a", 2, (0,)),
        ("a-from-2", 3, ()),
    ]
    fresh = Stage(FakeEngines(on_run=finish_at_once), store=QueueStore(path))
    fresh.do(lambda: fresh.conductor.set_paused(False))
    made = fresh.of(ImageDone)
    assert [one.seed for one in made] == [1, 2, 3, 4]


@pytest.mark.parametrize("first_index", [0, 5, 7])
def test_nothing_is_put_off_that_is_not_there(
    stage: Stage, expect_log: Callable[..., None], first_index: int
) -> None:
    expect_log("nothing to queue for later")
    stage.submit(make_job("a", images=5))
    stage.say(deferred("a", first_index, 5))
    assert [(job.id, job.request.images) for job in stage.jobs] == [("a", 5)]


# Reports, and what was kept for a job.


def test_the_report_of_a_finished_run_is_handed_on(stage: Stage) -> None:
    report = RunReport(plan=make_plan(), phases=())
    stage.submit(make_job("a"), make_job("b"))
    gpu = device()
    stage.do(lambda: stage.conductor.note_sample(sample(0.0, gpu=gpu)))
    stage.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY, report=report))
    stage.say(JobFinished(job_id="b", seconds=1.0, memory=MEMORY))
    [run] = stage.reports
    assert run.report == report
    assert run.engine.device == "cuda:0"
    assert run.device == gpu


def finished_run(*, engine_device: str, gpu: DeviceSnapshot | None) -> FinishedRun:
    denoise = MeasuredPhase(seconds=9.0, peak_bytes=round(8.5 * GIB))
    return FinishedRun(
        report=RunReport(
            plan=make_plan(), phases=(), measured=MeasuredRun(phases={Phase.DENOISE: denoise})
        ),
        engine=EngineReady(
            pid=1,
            device=engine_device,
            device_name=cpu_device_name() if engine_device == "cpu" else "As torch calls it",
            torch_version="2.9",
            diffusers_version="0",
        ),
        device=gpu,
    )


@pytest.mark.parametrize("engine_device", ["cuda:0", "cpu"])
def test_a_measured_run_teaches_the_next_plan(tmp_path: Path, engine_device: str) -> None:
    store = CalibrationStore(tmp_path / "calibration.json")
    learning = RunLearning(store)
    learning.set_driver("nvidia 580.1")
    gpu = device()
    run = finished_run(engine_device=engine_device, gpu=gpu)
    learning.learn(run)
    profile = device_profile(
        None if engine_device == "cpu" else gpu,
        host(),
        store=store,
        torch_version="2.9",
        driver="nvidia 580.1",
    )
    assert profile.calibration.runs == 1


def test_a_simulated_device_teaches_nothing(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "calibration.json")
    run = finished_run(engine_device="cuda:0", gpu=device(total_gib=8.0))
    RunLearning(store).learn(run)
    RunLearning(store).learn(replace(run, device=None))
    assert not (tmp_path / "calibration.json").exists()


def test_a_calibration_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    store = CalibrationStore(tmp_path / "data" / "calibration.json")
    RunLearning(store).learn(finished_run(engine_device="cuda:0", gpu=device()))
    assert (tmp_path / "data").is_file()


@pytest.mark.parametrize(
    "end",
    [
        JobFinished(job_id="a", seconds=1.0, memory=MEMORY),
        JobCancelled(job_id="a"),
        JobFailed(job_id="a", error=ErrorInfo(code="x", message="X.")),
    ],
)
def test_a_job_that_ended_is_over(stage: Stage, end: EngineMessage) -> None:
    stage.submit(make_job("a"))
    stage.say(end)
    assert stage.over == ["a"]


@pytest.mark.parametrize("code", sorted(LACK_OF_MEMORY_CODES))
def test_a_job_that_lacked_memory_is_over_when_it_is_forgotten(stage: Stage, code: str) -> None:
    lacking = ErrorInfo(code=code, message="There is no memory.")
    for job_id in ("a", "b", "c"):
        stage.submit(make_job(job_id))
        stage.say(JobFailed(job_id=job_id, error=lacking))
    assert stage.over == []
    stage.do(lambda: stage.conductor.remove("b"))
    assert stage.over == ["b"]
    stage.do(stage.conductor.clear_ended)
    assert sorted(stage.over) == ["a", "b", "c"]


def test_what_another_try_goes_on_with_is_not_over(stage: Stage) -> None:
    lacking = ErrorInfo(code=min(LACK_OF_MEMORY_CODES), message="There is no memory.")
    stage.submit(make_job("a"))
    stage.say(JobFailed(job_id="a", error=lacking))
    second, third = "a-try-2", "a-try-3"
    stage.submit(make_job(second))
    stage.do(lambda: stage.conductor.remove("a"))
    assert stage.over == [], "it runs"
    stage.submit(make_job(third))
    stage.say(JobFailed(job_id=second, error=lacking))
    stage.do(stage.conductor.clear_ended)
    assert stage.over == [], "the next one runs"
    stage.say(JobFinished(job_id=third, seconds=1.0, memory=MEMORY))
    assert stage.over == [third]


def test_a_waiting_job_that_is_taken_back_is_over(stage: Stage) -> None:
    stage.submit(make_job("run"), make_job("a"), make_job("b"))
    stage.do(lambda: stage.conductor.cancel("a"), lambda: stage.conductor.remove("b"))
    assert stage.over == ["a", "b"]


def test_a_job_whose_engine_died_is_not_over(stage: Stage) -> None:
    stage.submit(make_job("a"))
    stage.die()
    stage.do(stage.conductor.shutdown)
    assert stage.over == []


# A new engine.


def test_an_idle_engine_is_renewed_at_once(stage: Stage) -> None:
    stage.do(stage.conductor.warm_up)
    first = stage.engines.last
    stage.do(stage.conductor.renew_engine)
    assert first.commands == [Shutdown()]
    assert not first.alive
    assert len(stage.engines.started) == 2
    assert stage.states[-3:] == [EngineState.STOPPED, EngineState.STARTING, EngineState.READY]
    assert stage.reasons == [], "nothing to worry about"


def test_a_busy_engine_is_renewed_after_its_job(stage: Stage) -> None:
    a, b = make_job("a"), make_job("b")
    stage.submit(a, b)
    first = stage.engines.last
    stage.do(stage.conductor.renew_engine, stage.conductor.renew_engine)
    assert first.alive
    stage.say(*events_of_run(a))
    assert not first.alive
    assert len(stage.engines.started) == 2
    assert ids(tuple(stage.engines.last.jobs)) == ["b"]
    stage.say(*events_of_run(b))
    assert len(stage.engines.started) == 2, "once is enough"


def test_an_engine_that_is_still_starting_is_renewed_and_the_job_is_not_lost() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    first = stage.engines.last
    stage.do(stage.conductor.renew_engine)
    assert first.ended_by == "kill"
    stage.engines.last.get_ready()
    stage.do()
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]
    assert stage.jobs[0].attempts == 0


def test_an_engine_that_died_meanwhile_is_not_renewed_a_second_time(stage: Stage) -> None:
    a = make_job("a")
    stage.submit(a)
    stage.do(stage.conductor.renew_engine)
    stage.die()
    stage.say(*events_of_run(stage.engines.last.jobs[0]))
    assert len(stage.engines.started) == 2


def test_without_an_engine_there_is_nothing_to_renew(stage: Stage) -> None:
    stage.do(stage.conductor.renew_engine)
    assert stage.engines.started == []
    stage.do(stage.conductor.warm_up, stage.conductor.shutdown, stage.conductor.renew_engine)
    assert len(stage.engines.started) == 1


# Errors in the loop.


def test_a_job_is_begun_again_when_its_start_met_an_error(
    stage: Stage, expect_log: Callable[..., None]
) -> None:
    expect_log("goes on", level="ERROR")
    stage.engines.failures = [RuntimeError("the settings cannot be read")]
    stage.submit(make_job("a"))
    assert ids(tuple(stage.engines.last.jobs)) == ["a"]


def test_a_report_that_cannot_be_taken_does_not_stop_the_queue(
    expect_log: Callable[..., None],
) -> None:
    expect_log("could not be taken", level="ERROR")

    def refuse(run: FinishedRun) -> None:
        raise ValueError(run)

    stage = Stage(FakeEngines(), on_report=refuse)
    stage.submit(make_job("a"), make_job("b"))
    report = RunReport(plan=make_plan(), phases=())
    stage.say(JobFinished(job_id="a", seconds=1.0, memory=MEMORY, report=report))
    assert ids(tuple(stage.engines.last.jobs)) == ["a", "b"]
