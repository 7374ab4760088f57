"""A running job's budget in the conductor: what the user changes, and memory that comes back."""

from dataclasses import replace
from functools import partial

import pytest

from app.conductor.memory_return import MIN_BACK_BYTES, STABLE_S
from app.core.device import Sample
from app.core.events import JobFinished, Notice, PhaseStarted, PlanMade, StepDone
from app.core.jobs import JobState, Phase
from app.core.plan import ComponentPlan, GenerationPlan, Placement
from app.core.policy import Budget, MemoryMode, Precision
from app.core.units import GIB
from app.engine.client import EngineMessage
from app.engine.protocol import ChangeBudget, OfferMemory, RelieveJob
from app.monitor.prediction import Prediction
from tests.fakes.conductor_stage import Stage, make_job
from tests.fakes.engine import MEMORY, FakeEngines, events_of_run
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, sample
from tests.fakes.memory_story import Listener, MemoryStory, Others, make_plan, steady

BUDGET = Budget(headroom_bytes=3 * GIB, limit_bytes=8 * GIB, mode=MemoryMode.BALANCED)


@pytest.fixture
def stage() -> Stage:
    return Stage(FakeEngines(device="cuda:0"))


def changes(stage: Stage) -> list[ChangeBudget]:
    return [one for one in stage.engines.last.commands if isinstance(one, ChangeBudget)]


def change(stage: Stage, job_id: str, budget: Budget = BUDGET) -> None:
    stage.do(partial(stage.conductor.change_budget, job_id, budget))


# The user's budget.


def test_a_running_job_is_told_its_budget_and_remembers_it(stage: Stage) -> None:
    stage.submit(make_job("a"), make_job("b"))
    change(stage, "a")
    change(stage, "a")
    assert changes(stage) == [ChangeBudget(job_id="a", budget=BUDGET)], "once is enough"
    running, waiting = stage.jobs
    assert Budget.of(running.policy) == BUDGET
    assert running.policy == BUDGET.applied_to(make_job("a").policy), "and nothing else"
    assert waiting.policy == make_job("b").policy, "a job carries the policy it was queued with"


def test_a_job_that_is_begun_anew_keeps_its_budget(stage: Stage) -> None:
    stage.submit(make_job("a"))
    change(stage, "a")
    stage.die()
    assert [Budget.of(job.policy) for job in stage.engines.last.jobs] == [BUDGET]
    assert changes(stage) == []


def test_an_engine_that_is_still_starting_is_given_the_job_as_it_is_then() -> None:
    stage = Stage(FakeEngines(ready=False))
    stage.submit(make_job("a"))
    change(stage, "a")
    stage.engines.last.get_ready()
    stage.do()
    assert [Budget.of(job.policy) for job in stage.engines.last.jobs] == [BUDGET]
    assert changes(stage) == []


@pytest.mark.parametrize("job_id", ["b", "over", "unknown"])
def test_jobs_that_do_not_run_are_let_alone(stage: Stage, job_id: str) -> None:
    stage.submit(make_job("over"), make_job("a"), make_job("b"))
    stage.say(*events_of_run(make_job("over")))
    before = stage.jobs
    assert before[0].state is JobState.RUNNING
    change(stage, job_id)
    assert changes(stage) == []
    assert stage.jobs == before


# Memory that comes back.


def streaming(plan: GenerationPlan) -> GenerationPlan:
    transformer = ComponentPlan(
        name="transformer",
        precision=Precision.BF16,
        placement=Placement.STREAMED,
        weights_bytes=7 * GIB,
        device_bytes=4 * GIB,
        streamed_blocks=(1, 3),
    )
    return replace(plan, components=(transformer,))


class Through(Listener):
    """A story told to a conductor.

    Attributes:
        offers: What the engine was offered, with the time.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.offers: list[tuple[OfferMemory, float]] = []

    def note(self, event: EngineMessage) -> None:
        self._stage.say(event)

    def look(self, sample: Sample) -> Prediction | None:
        self._stage.do(lambda: self._stage.conductor.note_sample(sample))
        commands = self._stage.engines.last.commands
        offers = [one for one in commands if isinstance(one, OfferMemory)]
        self.offers += [(one, sample.time_s) for one in offers[len(self.offers) :]]
        return None


def play(
    stage: Stage,
    others: Others,
    *,
    plan: GenerationPlan | None = None,
    steps: int = 20,
    per_process: bool = True,
) -> list[tuple[OfferMemory, float]]:
    """Denoising begins at 3 s; a step takes a second."""
    stage.submit(make_job("job"))
    through = Through(stage)
    MemoryStory(
        plan or streaming(make_plan(steps=steps)),
        others,
        steps=steps,
        per_process=per_process,
        listener=through,
    ).play()
    return through.offers


def ends(at_s: float, *, gib: float = 3.0, back_gib: float = 2.0) -> Others:
    """A program that ends."""
    return lambda time_s: (gib - (back_gib if time_s >= at_s else 0.0)) * GIB


@pytest.mark.parametrize("per_process", [True, False])
def test_memory_that_stays_free_is_offered_once(stage: Stage, *, per_process: bool) -> None:
    [(offer, at_s)] = play(stage, ends(8.0), per_process=per_process)
    assert offer.job_id == "job"
    assert offer.reason == "Other programs gave 2.0 GB of the GPU's memory back."
    assert 8.0 + STABLE_S <= at_s <= 8.0 + STABLE_S + 0.5
    assert not stage.of(Notice), "the run says what it made of it"


def test_memory_that_comes_and_goes_is_not_offered(stage: Stage) -> None:
    def flapping(time_s: float) -> float:
        return (3.0 - (2.0 if time_s >= 6.0 and time_s % 4.0 < 3.5 else 0.0)) * GIB

    assert play(stage, flapping) == []


def test_what_comes_back_twice_in_a_phase_is_offered_once(stage: Stage) -> None:
    def twice(time_s: float) -> float:
        if time_s < 5.0:
            return 3.0 * GIB
        return (1.0 if time_s < 12.0 else 3.0 if time_s < 13.0 else 1.0) * GIB

    assert len(play(stage, twice)) == 1


def test_a_little_is_nothing(stage: Stage) -> None:
    back_gib = (MIN_BACK_BYTES - 1) / GIB
    assert play(stage, ends(8.0, back_gib=back_gib)) == []


def test_a_run_whose_weights_all_stay_is_offered_nothing(stage: Stage) -> None:
    assert play(stage, ends(8.0), plan=make_plan(steps=20)) == []


def test_what_was_there_from_the_beginning_is_not_offered(stage: Stage) -> None:
    assert play(stage, steady()) == []


def test_what_others_took_after_the_plan_and_gave_back_is_offered(stage: Stage) -> None:
    def came_and_went(time_s: float) -> float:
        return (1.0 + (0.5 if 5.0 <= time_s < 8.0 else 0.0)) * GIB

    [(_, at_s)] = play(stage, came_and_went)
    assert at_s >= 8.0 + STABLE_S


def test_a_prediction_goes_before_an_offer_and_is_made_anew_from_its_plan(stage: Stage) -> None:
    """A game starts and ends: less is asked, then more is offered, each once."""
    stage.submit(make_job("job"))
    through = Through(stage)
    plan = streaming(make_plan(steps=20, decode_gib=9.0))

    def game(time_s: float) -> float:
        return (1.0 + (2.5 if 6.0 <= time_s < 12.0 else 0.0)) * GIB

    MemoryStory(plan, game, steps=20, listener=through).play()
    commands = stage.engines.last.commands
    kinds = [type(one) for one in commands if isinstance(one, RelieveJob | OfferMemory)]
    assert kinds == [RelieveJob, OfferMemory]


def test_on_the_cpu_and_after_the_run_nothing_is_offered() -> None:
    for engine, over in (("cpu", False), ("cuda:0", True)):
        stage = Stage(FakeEngines(device=engine))
        stage.submit(make_job("job"))
        reserved = engine_memory(GIB)
        stage.say(
            PlanMade(job_id="job", plan=streaming(make_plan())),
            PhaseStarted(job_id="job", phase=Phase.DENOISE),
            StepDone(job_id="job", step=1, steps=9, seconds=1.0, memory=reserved),
        )
        if over:
            stage.say(JobFinished(job_id="job", seconds=1.0, memory=MEMORY))
        for number in range(200):
            gpu = device(used_gib=6.0 if number < 50 else 3.0, engine_gib=1.0)
            now = sample(number / 10, gpu=gpu)
            stage.do(partial(stage.conductor.note_sample, now))
        assert not [one for one in stage.engines.last.commands if isinstance(one, OfferMemory)]
