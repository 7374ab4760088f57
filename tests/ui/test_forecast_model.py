"""The plan over time: before a run, in it, and after it."""

import pytest

from app.core.events import (
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobFinished,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
)
from app.core.jobs import Phase
from app.core.plan import Verdict
from app.ui.models.forecast_model import ForecastModel
from app.ui.models.memory_frame import Lane, MemoryView
from tests.fakes.clock import FakeClock
from tests.fakes.hardware import host, sample
from tests.fakes.plans import PHASES, gib, phase_plan, plan
from tests.ui.run_events import MEMORY

RECENT, RUN = MemoryView.RECENT, MemoryView.RUN


class Player:
    """A model on a clock, and shorthands for events."""

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.model = ForecastModel(clock=self.clock)

    def ready(self, device: str = "cuda:0") -> None:
        self.model.on_event(
            EngineReady(
                pid=1, device=device, device_name="x", torch_version="2", diffusers_version="1"
            )
        )

    def start(self, phase: Phase, *, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        self.model.on_event(PhaseStarted(job_id="a", phase=phase))

    def made(self, made=None) -> None:
        self.model.on_event(PlanMade(job_id="a", plan=made or plan()))

    def finish(self, *, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        self.model.on_event(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))

    def forecast(self, view=RUN):
        found = self.model.forecast(view)
        assert found is not None
        return found

    def spans(self, view=RUN):
        return [(box.phase, box.start_s, box.end_s) for box in self.forecast(view).behind]


@pytest.fixture
def player(qapp) -> Player:
    return Player()


def test_without_a_plan_there_is_nothing_to_draw(player: Player):
    assert player.model.forecast(RECENT) is None
    assert player.model.forecast(RUN) is None


def test_before_a_run_the_plan_is_ahead_of_now(player: Player):
    player.model.set_planned(plan(), lane=Lane.DEVICE)
    forecast = player.forecast(RECENT)
    assert [box.phase for box in forecast.ahead] == [one.phase for one in PHASES]
    assert forecast.ahead[0].start_s == 0.0
    assert forecast.ahead[-1].end_s == pytest.approx(34.5)
    denoise = forecast.ahead[2]
    assert denoise.expected_bytes == gib(7.3) + gib(1.0)
    assert denoise.high_bytes - denoise.expected_bytes == gib(0.3)
    assert forecast.budget_bytes == gib(10.5)
    assert forecast.lane is Lane.DEVICE
    assert player.model.forecast(RUN) is None


def test_only_another_plan_is_told(player: Player, qtbot):
    player.model.set_planned(plan(), lane=Lane.DEVICE)
    with qtbot.assertNotEmitted(player.model.changed):
        player.model.set_planned(plan(), lane=Lane.DEVICE)
    with qtbot.waitSignal(player.model.changed):
        player.model.set_planned(plan(width_px=512), lane=Lane.DEVICE)


def test_what_is_above_the_budget_is_marked(player: Player):
    tight = plan(Verdict.DOES_NOT_FIT, budget_bytes=gib(8.0))
    player.model.set_planned(tight, lane=Lane.DEVICE)
    forecast = player.forecast(RECENT)
    assert [box.phase for box in forecast.ahead if box.over] == [Phase.DENOISE]
    assert not forecast.fits


def test_a_run_begins_each_phase_anew_where_it_really_began(player: Player):
    player.ready()
    player.made()
    player.start(Phase.LOAD)
    assert player.spans()[0] == (Phase.LOAD, 100.0, 104.0)
    player.start(Phase.ENCODE, after_s=10.0)
    assert player.spans()[:3] == [
        (Phase.LOAD, 100.0, 110.0),
        (Phase.ENCODE, 110.0, 112.0),
        (Phase.DENOISE, 112.0, 136.0),
    ]
    player.start(Phase.DENOISE, after_s=1.0)
    assert player.spans()[2] == (Phase.DENOISE, 111.0, 135.0)


def test_the_engines_plan_may_come_after_the_first_phase_began(player: Player):
    player.ready()
    player.start(Phase.LOAD)
    assert player.model.forecast(RUN) is None
    player.clock.advance(1.0)
    player.made()
    assert player.spans()[0] == (Phase.LOAD, 100.0, 104.0)


def test_in_a_run_only_what_is_left_is_ahead(player: Player):
    player.ready()
    player.made()
    player.start(Phase.DENOISE)
    player.clock.advance(20.0)
    forecast = player.forecast(RECENT)
    assert [box.phase for box in forecast.ahead] == [Phase.DENOISE, Phase.DECODE, Phase.SAVE]
    assert forecast.ahead[0].start_s == 0.0
    assert forecast.ahead[0].end_s == pytest.approx(4.0)
    assert forecast.ahead_s == pytest.approx(34.5)


def test_a_phase_that_takes_longer_is_stretched_in_leaps(player: Player):
    player.ready()
    player.made()
    player.start(Phase.LOAD)
    ends = set[float]()
    for _ in range(200):
        player.clock.advance(0.1)
        load = player.spans()[0]
        assert load[2] >= player.clock.now_s
        ends.add(load[2])
    assert 2 < len(ends) < 12


def test_a_new_plan_in_the_middle_holds_from_then_on(player: Player):
    player.ready()
    player.made()
    player.start(Phase.DENOISE)
    player.clock.advance(10.0)
    lower = tuple(
        phase_plan(Phase.DENOISE, 3.0, 1.0, 30.0) if one.phase is Phase.DENOISE else one
        for one in PHASES
    )
    player.made(plan(phases=lower))
    boxes = player.forecast().behind
    assert [(box.phase, box.expected_bytes) for box in boxes[:2]] == [
        (Phase.DENOISE, gib(7.3) + gib(1.0)),
        (Phase.DENOISE, gib(4.0)),
    ]
    assert boxes[0].end_s == boxes[1].start_s == 110.0


def test_a_batch_in_parts_comes_back_to_a_phase_for_what_is_left_of_it(player: Player):
    player.ready()
    player.made()
    player.start(Phase.DENOISE)
    player.clock.advance(10.0)
    player.model.on_event(
        PhaseFinished(job_id="a", phase=Phase.DENOISE, seconds=10.0, memory=MEMORY)
    )
    player.start(Phase.DECODE)
    player.start(Phase.DENOISE, after_s=2.0)
    spans = player.spans()
    assert [span[0] for span in spans[:3]] == [Phase.DENOISE, Phase.DECODE, Phase.DENOISE]
    assert spans[2][2] - spans[2][1] == pytest.approx(14.0)


def test_after_a_run_its_forecast_stays_with_it_and_the_next_plan_is_ahead(player: Player):
    player.ready()
    player.made()
    player.start(Phase.LOAD)
    player.finish(after_s=3.0)
    player.model.set_planned(plan(width_px=512), lane=Lane.DEVICE)
    assert player.spans() == [(Phase.LOAD, 100.0, 103.0)]
    recent = player.forecast(RECENT)
    assert len(recent.behind) == 1
    assert len(recent.ahead) == len(PHASES)


def test_on_the_cpu_the_forecast_is_about_ram(player: Player):
    player.ready("cpu")
    player.made()
    player.start(Phase.LOAD)
    assert player.forecast().lane is Lane.HOST


def test_on_the_cpu_the_plan_stands_on_what_the_process_holds_without_a_model(player: Player):
    player.model.set_planned(plan(), lane=Lane.HOST)
    player.model.on_sample(sample(1.0, computer=host(engine_gib=9.0)))
    assert player.forecast(RECENT).ahead[2].expected_bytes == gib(7.3) + gib(1.0)
    player.ready("cpu")
    player.model.on_sample(sample(1.1, computer=host(engine_gib=0.5)))
    player.model.on_sample(sample(1.2, computer=host(engine_gib=9.0)))
    lifted = player.forecast(RECENT).ahead[2]
    assert lifted.expected_bytes == gib(7.3) + gib(1.0) + gib(0.5)
    assert lifted.high_bytes - lifted.low_bytes == 2 * gib(0.3)
    # What fits stays below the limit.
    assert player.forecast(RECENT).budget_bytes == gib(10.5) + gib(0.5)
    player.model.set_planned(plan(), lane=Lane.DEVICE)
    assert player.forecast(RECENT).ahead[2].expected_bytes == gib(7.3) + gib(1.0)


def test_an_engine_that_died_begins_again(player: Player):
    player.ready()
    player.made()
    player.start(Phase.DENOISE)
    player.clock.advance(5.0)
    player.model.on_event(EngineStateChanged(state=EngineState.RESTARTING, pid=2))
    assert player.spans() == [(Phase.DENOISE, 100.0, 105.0)]
    player.start(Phase.LOAD, after_s=1.0)
    assert player.spans()[1][:2] == (Phase.LOAD, 106.0)


def test_events_of_another_job_begin_another_run(player: Player):
    player.ready()
    player.made()
    player.start(Phase.LOAD)
    player.model.on_event(PhaseStarted(job_id="b", phase=Phase.LOAD))
    assert player.model.forecast(RUN) is None
