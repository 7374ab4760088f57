"""An engine that is started to measure, and every way that can go wrong."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.core.errors import EngineCrashedError, EngineError, ErrorInfo, SetupError
from app.core.events import CalibrationDone, EngineLog
from app.core.machine_speeds import MachineSpeeds
from app.engine.calibration_run import measure_with_engine
from app.engine.client import Deliver, EngineEnded
from app.engine.protocol import Calibrate, Command, Shutdown
from tests.fakes.engine import FakeEngineClient

COMMAND = Calibrate(model_folders=("/models/a",), scratch_folder="/cache")
SPEEDS = MachineSpeeds(
    device="cuda:0",
    device_name="Fake GPU",
    torch_version="2.13.0",
    precision="bfloat16",
    compute_flops=4e13,
    reserved_bytes=100,
    seconds=3.0,
)


class Engine(FakeEngineClient):
    """Answers the command with what it was made with."""

    def __init__(self, deliver: Deliver, answer: object) -> None:
        super().__init__(deliver, pid=77)
        self._answer = answer

    def send(self, command: Command) -> None:
        super().send(command)
        if isinstance(self._answer, CalibrationDone):
            self.say(self._answer)
        elif isinstance(self._answer, EngineEnded):
            self.die(exit_code=self._answer.exit_code or 0, log_tail=self._answer.log_tail)


class Stage:
    """Starts one engine and keeps it."""

    def __init__(self, answer: object, *, ready: bool = True) -> None:
        self.engine: Engine | None = None
        self.asked: list[int] = []
        self._answer = answer
        self._ready = ready

    def start(self, deliver: Deliver) -> Engine:
        self.engine = Engine(deliver, self._answer)
        self.engine.start()
        if self._ready:
            self.engine.get_ready()
        return self.engine

    def measure(
        self, own: int | None = None, clock: Callable[[], float] = lambda: 0.0
    ) -> MachineSpeeds:
        def own_bytes(pid: int) -> int | None:
            self.asked.append(pid)
            assert self.engine is not None
            assert self.engine.alive, "what a process holds is asked while it lives"
            return own

        return measure_with_engine(self.start, COMMAND, own_bytes=own_bytes, clock=clock)

    @property
    def commands(self) -> list[Command]:
        assert self.engine is not None
        return self.engine.commands


def test_what_the_engine_measures_is_returned_and_the_engine_ended():
    stage = Stage(CalibrationDone(speeds=SPEEDS))
    assert stage.measure(own=350) == replace(SPEEDS, context_bytes=250)
    assert stage.commands == [COMMAND, Shutdown()]
    assert stage.asked == [77]
    assert stage.engine is not None
    assert not stage.engine.alive


@pytest.mark.parametrize("own", [None, 0, 100])
def test_a_driver_that_does_not_tell_leaves_the_context_open(own: int | None):
    assert Stage(CalibrationDone(speeds=SPEEDS)).measure(own=own) == SPEEDS


def test_a_processor_has_no_context():
    speeds = replace(SPEEDS, device="cpu", reserved_bytes=None)
    stage = Stage(CalibrationDone(speeds=speeds))
    assert stage.measure(own=5) == speeds
    assert stage.asked == []


def test_a_failure_is_told():
    stage = Stage(CalibrationDone(error=ErrorInfo(code="unexpected", message="No memory.")))
    with pytest.raises(EngineError, match="could not be measured: No memory"):
        stage.measure()
    assert stage.commands[-1] == Shutdown()


def test_an_engine_that_dies_is_told_with_its_last_words():
    stage = Stage(EngineEnded(exit_code=-9, log_tail="last"))
    with pytest.raises(EngineCrashedError, match="exit code -9") as caught:
        stage.measure()
    assert caught.value.details == "last"


def test_an_engine_that_cannot_begin_says_why(expect_log: Callable[..., None]):
    expect_log("torch cannot", logger="engine", level="CRITICAL")

    def start(deliver: Deliver) -> Engine:
        engine = Engine(deliver, None)
        engine.start()
        engine.say(EngineLog(level=50, logger="app", message="torch cannot be imported\nTrace"))
        engine.die(exit_code=1)
        return engine

    with pytest.raises(EngineError, match=r"^torch cannot be imported$") as caught:
        measure_with_engine(start, COMMAND, own_bytes=lambda _pid: None)
    assert caught.value.code == "engine.setup", "as generate has it: trying again does not help"


def test_an_engine_that_measures_is_ended_at_once_when_interrupted():
    stage = Stage(None)
    ticks = iter([0.0, 0.0, 0.0])

    def clock() -> float:
        try:
            return next(ticks)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        stage.measure(clock=clock)
    assert stage.commands[0] == COMMAND
    assert stage.engine is not None
    assert stage.engine.ended_by == "kill"


def test_an_engine_of_another_version_is_told():
    def start(deliver: Deliver) -> Engine:
        engine = Engine(deliver, None)
        error = ErrorInfo(code="engine.version", message="Of different versions.")
        engine.say(EngineEnded(exit_code=1, error=error))
        return engine

    with pytest.raises(EngineError, match="different versions") as caught:
        measure_with_engine(start, COMMAND, own_bytes=lambda _pid: None)
    assert caught.value.code == "engine.version"


def test_a_system_that_cannot_start_it_is_told():
    def start(deliver: Deliver) -> Engine:
        raise OSError(12, "Cannot allocate memory")

    with pytest.raises(SetupError, match="Cannot allocate memory"):
        measure_with_engine(start, COMMAND, own_bytes=lambda _pid: None)


@pytest.mark.parametrize("ready", [True, False])
def test_an_engine_that_hangs_is_given_up(ready: bool):
    stage = Stage(None, ready=ready)
    # Each look at the clock is minutes after the last.
    now = itertools.count(0.0, 200.0)
    with pytest.raises(EngineError, match="does not answer"):
        stage.measure(clock=lambda: next(now))
    assert stage.engine is not None
    assert not stage.engine.alive
    assert (COMMAND in stage.commands) == ready
