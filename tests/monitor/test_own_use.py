"""Whose memory it is where the driver does not tell."""

import pytest

from app.core.events import (
    EngineMemory,
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobFinished,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
)
from app.core.jobs import Phase
from app.core.units import GIB
from app.monitor.own_use import OwnUse
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, sample
from tests.fakes.plans import phase_plan, plan

PLAN = plan(phases=(phase_plan(Phase.LOAD, 4.0, 0.0, 4.0, unsure_gib=0.5),))


def memory(reserved_gib: float) -> EngineMemory:
    reserved = round(reserved_gib * GIB)
    return engine_memory(reserved, host_bytes=GIB)


class Watched:
    """An engine at work on a GPU whose driver tells nothing of processes."""

    def __init__(self) -> None:
        self.own = OwnUse()

    def ours_gib(self, used_gib: float, *, told_gib: float | None = None) -> float | None:
        found = self.own.told_apart(
            sample(1.0, gpu=device(used_gib=used_gib, engine_gib=told_gib))
        ).device
        assert found is not None
        return None if found.engine_bytes is None else found.engine_bytes / GIB

    def loads(self) -> None:
        self.own.note(PhaseStarted(job_id="a", phase=Phase.LOAD))
        self.own.note(PlanMade(job_id="a", plan=PLAN))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_before_the_engine_does_anything_nothing_is_ours(watched: Watched):
    assert watched.ours_gib(2.0) is None


def test_what_grows_while_a_model_is_loaded_is_ours(watched: Watched):
    watched.ours_gib(2.0)
    watched.loads()
    assert watched.ours_gib(2.0) is None
    assert watched.ours_gib(5.0) == 3.0
    assert watched.ours_gib(6.0) == 4.0


def test_ours_is_never_more_than_the_plan_has_for_the_phase(watched: Watched):
    watched.ours_gib(2.0)
    watched.loads()
    assert watched.ours_gib(11.0) == 4.5


def test_without_a_plan_what_grows_is_others(watched: Watched):
    watched.ours_gib(2.0)
    watched.own.note(PhaseStarted(job_id="a", phase=Phase.LOAD))
    assert watched.ours_gib(6.0) is None


def test_what_the_engine_says_goes_before_what_was_guessed(watched: Watched):
    watched.ours_gib(2.0)
    watched.loads()
    assert watched.ours_gib(6.5) == 4.5
    watched.own.note(PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1, memory=memory(4.0)))
    assert watched.ours_gib(6.5) == 4.0
    watched.own.note(JobFinished(job_id="a", seconds=2, memory=memory(3.0)))
    assert watched.ours_gib(9.0) == 3.0


def test_another_program_that_starts_while_idle_is_not_ours_at_the_next_load(watched: Watched):
    watched.ours_gib(2.0)
    watched.ours_gib(6.0)
    watched.loads()
    assert watched.ours_gib(7.0) == 1.0


def test_a_new_engine_begins_with_nothing(watched: Watched):
    watched.own.note(PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1, memory=memory(4.0)))
    assert watched.ours_gib(6.0) == 4.0
    watched.own.note(EngineStateChanged(state=EngineState.RESTARTING, pid=2))
    assert watched.ours_gib(6.0) is None


def test_an_engine_on_the_cpu_takes_nothing_of_the_gpu(watched: Watched):
    watched.own.note(
        EngineReady(
            pid=1, device="cpu", device_name="CPU", torch_version="2", diffusers_version="0"
        )
    )
    watched.ours_gib(2.0)
    watched.loads()
    assert watched.ours_gib(6.0) is None


def test_where_the_driver_tells_the_larger_of_both_counts(watched: Watched):
    watched.own.note(PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1, memory=memory(4.0)))
    assert watched.ours_gib(6.0, told_gib=4.5) == 4.5
    assert watched.ours_gib(6.0, told_gib=1.0) == 4.0


def test_without_a_gpu_nothing_is_told_apart(watched: Watched):
    bare = sample(1.0)
    assert watched.own.told_apart(bare) is bare
