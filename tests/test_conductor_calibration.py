"""The conductor has the machine measured by an idle engine."""

from app.core.events import CalibrationDone, EngineState
from app.core.jobs import JobState
from app.core.machine_speeds import MachineSpeeds
from app.engine.protocol import Calibrate, RunJob
from app.engine.session import MEASURING_DEADLINE_S
from tests.fakes.conductor_stage import Stage, make_job
from tests.fakes.engine import FakeEngines, events_of_run

WANTED = Calibrate(model_folders=("/models/demo",), scratch_folder="/cache")
SPEEDS = MachineSpeeds(
    device="cpu",
    device_name="Fake CPU",
    torch_version="0",
    precision="float32",
    compute_flops=1e11,
    seconds=3.0,
)


def problems(stage: Stage) -> list[str]:
    return [one.error.code for one in stage.of(CalibrationDone) if one.error is not None]


def test_an_engine_is_started_for_it_and_its_answer_is_told():
    stage = Stage(FakeEngines(ready=False))
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert stage.engines.last.commands == []
    stage.engines.last.get_ready()
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert stage.engines.last.commands == [WANTED], "once, however often it was asked"
    stage.say(CalibrationDone(speeds=SPEEDS))
    assert stage.of(CalibrationDone) == [CalibrationDone(speeds=SPEEDS)]
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert stage.engines.last.commands == [WANTED, WANTED]


def test_a_job_that_comes_meanwhile_is_done_after_it():
    stage = Stage(FakeEngines())
    job = make_job("a")
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.submit(job)
    assert [type(one) for one in stage.engines.last.commands] == [Calibrate, RunJob]
    stage.say(CalibrationDone(speeds=SPEEDS), *events_of_run(job))
    assert len(stage.of(CalibrationDone)) == 1
    assert stage.jobs[0].state is JobState.FINISHED


def test_asked_again_while_a_run_waits_for_it_the_measuring_goes_on():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.submit(make_job("a"))
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert stage.of(CalibrationDone) == [], "neither refused nor ended"
    stage.say(CalibrationDone(speeds=SPEEDS))
    assert stage.of(CalibrationDone) == [CalibrationDone(speeds=SPEEDS)]


def test_beside_a_run_nothing_is_measured():
    stage = Stage(FakeEngines())
    job = make_job("a")
    stage.submit(job)
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert problems(stage) == ["engine.busy"]
    stage.say(*events_of_run(job))
    assert WANTED not in stage.engines.last.commands


def test_an_engine_that_dies_of_it_is_told_and_does_not_try_again():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.die()
    assert problems(stage) == ["engine.calibration"]
    stage.submit(make_job("a"))
    assert [type(one) for one in stage.engines.last.commands] == [RunJob]


def test_an_engine_that_cannot_be_started_is_told():
    engines = FakeEngines()
    engines.failures.append(OSError(12, "no memory"))
    stage = Stage(engines)
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    assert problems(stage) == ["engine.calibration"]


def test_a_renewed_engine_measures_again():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.do(stage.conductor.renew_engine)
    assert [one.commands[0] for one in stage.engines.started] == [WANTED, WANTED]
    assert stage.of(CalibrationDone) == []


def test_a_job_cancelled_before_its_turn_ends_the_measuring_with_its_engine():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.submit(make_job("a"))
    stage.do(lambda: stage.conductor.cancel("a"))
    assert problems(stage) == ["engine.calibration"]
    assert stage.states[-1] is EngineState.STOPPED


def test_after_the_end_nothing_is_begun():
    stage = Stage(FakeEngines())
    stage.do(stage.conductor.shutdown, lambda: stage.conductor.calibrate(WANTED))
    assert stage.engines.started == []


def test_an_engine_that_hangs_while_it_measures_is_ended_and_told():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    hung = stage.engines.last
    stage.clock.advance(MEASURING_DEADLINE_S - 1)
    stage.do()
    assert hung.alive
    stage.clock.advance(1)
    stage.do()
    assert hung.ended_by == "kill"
    (done,) = stage.of(CalibrationDone)
    assert done.error is not None
    assert "did not measure the machine in time" in done.error.message
    assert stage.states[-1] is EngineState.STOPPED


def test_a_job_that_waits_for_a_measuring_that_hangs_runs_in_a_new_engine():
    stage = Stage(FakeEngines())
    job = make_job("a")
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.submit(job)
    stage.clock.advance(MEASURING_DEADLINE_S)
    stage.do()
    stage.do()  # What the new engine says.
    assert problems(stage) == ["engine.calibration"]
    assert len(stage.engines.started) == 2
    assert [one.id for one in stage.engines.last.jobs] == ["a"]
    stage.say(*events_of_run(job))
    assert stage.jobs[0].state is JobState.FINISHED


def test_the_deadline_goes_with_the_answer():
    stage = Stage(FakeEngines())
    stage.do(lambda: stage.conductor.calibrate(WANTED))
    stage.say(CalibrationDone(speeds=SPEEDS))
    stage.clock.advance(10 * MEASURING_DEADLINE_S)
    stage.do()
    assert stage.engines.last.alive
