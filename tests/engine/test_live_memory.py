"""Memory that changes in mid-run: weights leave and come before the next block, bits stay."""

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.events import (
    Downshifted,
    JobCancelled,
    JobFinished,
    Notice,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.plan import Placement, Rung
from app.core.policy import Budget, MemoryMode
from app.core.preset import PresetLimits
from app.core.profile import HostProfile
from app.core.units import GIB, MIB
from app.engine.cancel import CancelFlag
from app.engine.protocol import ChangeBudget, RunJob
from app.engine.relief import ReliefRequests
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.host_store import HostStore
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Moment, OtherUse
from tests.engine_process import EngineProcess, make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same, simulated

DEMO = Path(resource("models/demo"))
CAPACITY_BYTES = 80 * MIB
STEPS = 3
BLOCKS = 6
REASON = "Another program took memory."
BACK = "Another program gave memory back."


def budget(
    headroom_mib: float = 0, *, limit_mib: int | None = None, mode: MemoryMode = MemoryMode.AUTO
) -> Budget:
    return Budget(
        headroom_bytes=round(headroom_mib * MIB),
        limit_bytes=None if limit_mib is None else limit_mib * MIB,
        mode=mode,
    )


LITTLE = budget(70)
"""Too little for any weights to stay, and for the decode."""
PLENTY = budget()


def job(out: Path, **request: Any) -> Job:
    values = {"width_px": 128, "height_px": 128, "images": 1, "steps": STEPS, "seed": 3, **request}
    return replace(make_job(DEMO, out, **values), policy=POLICY, previews=False)


Action = Callable[[ReliefRequests], None]


class Scripted(ReliefRequests):
    """Asks at blocks of the run: the looks between blocks are counted, from a phase on.

    Attributes:
        counts: Whether looks are counted by now.
        seen: Bytes of weights on the device at each look.
    """

    def __init__(self, device: SimulatedDevice, script: Mapping[int, Action]) -> None:
        self.counts = False
        self.seen: list[int] = []
        self._device = device
        self._script = dict(script)
        self._pending = False
        super().__init__()

    @property
    def pending(self) -> bool:
        if self.counts:
            self.seen.append(self._device.weights_bytes())
            action = self._script.pop(len(self.seen), None)
            if action is not None:
                action(self)
        return self._pending

    @pending.setter
    def pending(self, value: bool) -> None:
        self._pending = value


class Live(Runs):
    """Runs whose requests follow a script."""

    def __init__(self, **story: Any) -> None:
        values = {"capacity_bytes": CAPACITY_BYTES, **story}
        self.simulated = simulated(**values)
        super().__init__(self.simulated)
        self.asked = Scripted(self.simulated, {})
        self.listener: Callable[[Any], None] = lambda _event: None
        self.on_event = self._listen

    def play(
        self, wanted: Job, script: Mapping[int, Action], *, since: Phase = Phase.DENOISE
    ) -> list[Any]:
        self.start(wanted, script, since=since)
        assert isinstance(self.events[-1], JobFinished), self.events[-1]
        return self.events

    def start(
        self, wanted: Job, script: Mapping[int, Action], *, since: Phase = Phase.DENOISE
    ) -> list[Any]:
        """It may also be cancelled."""
        self.events = []
        self._since = since
        self.asked = Scripted(self.simulated, script)
        self.relief = self.asked
        self.runner.run(wanted, self.flag, self.asked)
        return self.events

    def _listen(self, event: object) -> None:
        if isinstance(event, PhaseStarted) and event.phase is self._since:
            self.asked.counts = True
        self.listener(event)


def change(wanted: Budget) -> Action:
    return lambda requests: requests.change_budget(wanted)


def told(events: list[Any]) -> list[str]:
    return [one.message for one in of_kind(events, Notice) if one.code == "memory.budget"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all tests here: engines find the prompts again that earlier ones have encoded."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_HOME", str(home))


@pytest.fixture(scope="module")
def live(home: Path) -> Live:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_HOME", str(home))
        return Live()


@pytest.fixture(scope="module")
def quiet(live: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[int, np.ndarray]:
    """The picture of a run in which nothing happens."""
    events = live.play(job(tmp_path_factory.mktemp("quiet")), {})
    assert len(live.asked.seen) == STEPS * BLOCKS
    return pixels(events)


# The user's budget.


def test_weights_leave_before_the_next_block_and_come_back_as_they_pass(
    live: Live, quiet: dict[int, np.ndarray], tmp_path: Path
) -> None:
    events = live.play(job(tmp_path), {3: change(LITTLE), 10: change(PLENTY)})
    seen = live.asked.seen
    transformer = of_kind(events, PlanMade)[0].plan.component("transformer").weights_bytes
    assert seen[2] > transformer, "all stays"
    assert seen[3] < transformer * 0.6, "one block later"
    assert len(set(seen[3:10])) == 1
    assert seen[10] >= transformer, "one block later"
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3], "no step twice"
    steps = of_kind(events, StepDone)
    assert steps[0].memory.slots_bytes > 0
    assert steps[-1].memory.slots_bytes == 0
    assert steps[-1].streaming is None
    first, second = told(events)
    assert first.startswith("From now on 70.0 MB of the GPU are left to other programs: ")
    assert "all blocks of the transformer come in each time it runs" in first
    assert "The picture stays the same." in first
    assert "uses" in first, "the decode cannot do with so little"
    assert second.startswith("From now on nothing of the GPU is left to other programs: the whole")
    assert not of_kind(events, Downshifted)
    budgets = [one.plan.budget_bytes for one in of_kind(events, PlanMade)]
    assert budgets == [80 * MIB, 10 * MIB, 80 * MIB]
    assert same(pixels(events), quiet)


def test_what_leaves_is_free_for_others_and_nothing_of_a_run_is_kept(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(
        live.simulated, "release_cached", lambda: given_back.append(len(live.asked.seen))
    )
    live.play(job(tmp_path / "a"), {3: change(LITTLE)})
    assert given_back[0] == 3, "before the block computes"
    requests = weakref.ref(live.asked)
    live.asked = live.relief = Scripted(live.simulated, {})
    gc.collect()
    assert requests() is None


def test_dragging_is_told_once(live: Live, quiet: dict[int, np.ndarray], tmp_path: Path) -> None:
    def drag(requests: ReliefRequests) -> None:
        for headroom in range(0, 70, 2):
            requests.change_budget(budget(headroom))

    events = live.play(job(tmp_path), {4: drag})
    assert len(told(events)) == 1
    assert len(of_kind(events, PlanMade)) == 2
    assert same(pixels(events), quiet)


def test_what_changes_nothing_is_not_told(live: Live, tmp_path: Path) -> None:
    script = {2: change(Budget.of(POLICY)), 4: change(budget(1)), 5: change(budget(2))}
    events = live.play(job(tmp_path), script)
    assert told(events) == []
    assert len(of_kind(events, PlanMade)) == 3, "but the limit is another one"


def test_limit_and_mode_are_budgets_too(
    live: Live, quiet: dict[int, np.ndarray], tmp_path: Path
) -> None:
    script = {
        2: change(budget(mode=MemoryMode.MINIMAL)),
        8: change(budget(limit_mib=40)),
        14: change(budget(mode=MemoryMode.RESIDENT)),
    }
    events = live.play(job(tmp_path), script)
    placements = [
        one.plan.component("transformer").placement for one in of_kind(events, PlanMade)[1:]
    ]
    assert placements[0] is Placement.STREAMED
    assert Placement.STREAMED not in placements[1:]
    assert "as few weights as possible stay on the GPU" in told(events)[0]
    assert "at most 40.0 MB of the GPU are used and as many weights" in told(events)[1]
    assert same(pixels(events), quiet)


BUDGETS = st.builds(
    budget,
    st.floats(0, 80),
    limit_mib=st.one_of(st.none(), st.integers(1, 80)),
    mode=st.sampled_from(MemoryMode),
)


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=st.dictionaries(st.integers(1, STEPS * BLOCKS), BUDGETS, max_size=8))
def test_no_change_of_the_budget_changes_a_bit(
    live: Live, quiet: dict[int, np.ndarray], tmp_path: Path, script: dict[int, Budget]
) -> None:
    actions = {at: change(wanted) for at, wanted in script.items()}
    events = live.play(job(tmp_path), actions)
    assert same(pixels(events), quiet)
    assert not of_kind(events, Downshifted)


def test_the_text_encoder_gives_way_between_its_layers(live: Live, tmp_path: Path) -> None:
    prompt = f"a blue square in {tmp_path}"  # That no test has encoded before.
    events = live.play(
        job(tmp_path / "a", prompt=prompt), {2: change(budget(77))}, since=Phase.ENCODE
    )
    undisturbed = live.play(job(tmp_path / "b", prompt=prompt), {})
    assert of_kind(events, PlanMade)[-1].plan.component("text_encoder").streamed_blocks
    assert same(pixels(events), pixels(undisturbed))


def test_where_there_is_no_room_after_all_the_run_goes_on_as_before(
    live: Live, quiet: dict[int, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers = live.simulated.transfers
    allocate = transfers.allocate

    def refuse(size_bytes: int) -> torch.Tensor:
        monkeypatch.setattr(transfers, "allocate", allocate)
        raise torch.OutOfMemoryError(f"no room for {size_bytes}")

    def want_more(requests: ReliefRequests) -> None:
        monkeypatch.setattr(transfers, "allocate", refuse)
        requests.change_budget(PLENTY)

    events = live.play(job(tmp_path), {2: change(LITTLE), 9: want_more})
    assert told(events)[-1].endswith(
        "There was no room for more weights after all, so they are as before."
    )
    assert of_kind(events, PlanMade)[-1].plan.component("transformer").streamed_blocks
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3]
    assert not of_kind(events, Downshifted)
    assert same(pixels(events), quiet)


def test_a_forecast_that_was_wrong_is_not_trusted_with_more(
    quiet: dict[int, np.ndarray], tmp_path: Path
) -> None:
    live = Live()
    plan = of_kind(live.play(job(tmp_path / "a"), {}), PlanMade)[0].plan
    needed = plan.phase(Phase.DENOISE).needed_bytes
    tight = Live(capacity_bytes=needed + MIB, working_factor=2.0)
    tight.listener = lambda event: (
        tight.relief.change_budget(PLENTY) if isinstance(event, StepDone) else None
    )
    wanted = job(tmp_path / "b")
    cautious = replace(wanted, policy=replace(POLICY, headroom_bytes=MIB))
    events = tight.play(cautious, {})
    assert of_kind(events, Downshifted)
    [_, *later] = [one.plan.component("transformer") for one in of_kind(events, PlanMade)]
    assert all(
        len(one.streamed_blocks) <= len(other.streamed_blocks) for one, other in pairwise(later)
    )
    assert told(events)[0].endswith(
        "more memory than was foreseen, so no weights come back before the next one."
    )
    assert same(pixels(events), quiet, levels=1)


def test_what_stays_for_the_next_run_keeps_to_a_budget_of_the_last_moment(
    live: Live, tmp_path: Path
) -> None:
    def late(event: object) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.SAVE:
            assert live.simulated.weights_bytes() > 0
            live.relief.change_budget(budget(80))

    live.listener = late
    live.play(job(tmp_path), {})
    live.listener = lambda _event: None
    assert live.simulated.weights_bytes() == 0


def test_the_engine_process_takes_a_budget(tmp_path: Path) -> None:
    story = tmp_path / "story.json"
    story.write_text(f'{{"capacity_bytes": {CAPACITY_BYTES}}}')
    wanted = job(tmp_path / "out", steps=12)
    with EngineProcess(device=f"sim:{story}") as engine:
        engine.wait_until_ready()
        engine.send(ChangeBudget(job_id="unknown", budget=LITTLE))
        engine.send(RunJob(job=wanted))
        engine.wait_for(StepDone)
        engine.send(ChangeBudget(job_id=wanted.id, budget=LITTLE))
        notice = engine.wait_for(Notice)
        engine.wait_for(JobFinished)
    assert notice.code == "memory.budget"
    assert of_kind(engine.seen, PlanMade)[-1].plan.budget_bytes == 10 * MIB
    assert of_kind(engine.seen, StepDone)[-1].memory.slots_bytes > 0


# Less, because memory will run out.


def test_a_prediction_is_relieved_one_block_later(
    live: Live, quiet: dict[int, np.ndarray], tmp_path: Path
) -> None:
    at = STEPS * BLOCKS - 4
    events = live.play(job(tmp_path), {at: lambda requests: requests.ask(20 * MIB, 0, REASON)})
    assert live.asked.seen[at] < live.asked.seen[at - 1] * 0.6
    rungs = of_kind(events, Downshifted)
    assert {rung.rung for rung in rungs} <= {Rung.STREAM, Rung.TILE}
    assert {(rung.step, rung.reason, rung.foreseen) for rung in rungs} == {
        (STEPS - 1, REASON, True)
    }
    assert live.asked.take() is None, "nothing is left to be asked twice"


def test_weights_give_way_at_once_and_the_batch_at_the_end_of_the_step(
    live: Live, tmp_path: Path
) -> None:
    undisturbed = live.play(job(tmp_path / "a", images=2, width_px=256, height_px=256), {})
    wanted = job(tmp_path / "b", images=2, width_px=256, height_px=256)
    events = live.play(wanted, {3: lambda requests: requests.ask(54 * MIB, 0, REASON)})
    seen = live.asked.seen
    assert seen[3] < seen[2] * 0.6
    rungs = of_kind(events, Downshifted)
    assert next(rung.step for rung in rungs if rung.rung is Rung.STREAM) == 0
    assert [rung.step for rung in rungs if rung.rung is Rung.SPLIT] == [1]
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3, 2, 3]
    assert same(pixels(events), pixels(undisturbed), levels=1)


# More, because others gave it back.


def game_until(step: int) -> tuple[OtherUse, ...]:
    return (
        OtherUse(bytes=66 * MIB),
        OtherUse(at=Moment(phase=Phase.DENOISE, step=step), bytes=0),
    )


def test_memory_that_came_back_is_used_once_in_a_phase(tmp_path: Path) -> None:
    live = Live(others=game_until(1))

    def offer(requests: ReliefRequests) -> None:
        requests.offer(BACK)

    events = live.play(
        job(tmp_path),
        # The first while the game still runs.
        {2: offer, 8: offer, 14: offer},
    )
    steps = of_kind(events, StepDone)
    assert of_kind(events, PlanMade)[0].plan.component("transformer").streamed_blocks
    assert steps[0].memory.slots_bytes > 0
    assert steps[1].memory.slots_bytes == 0
    assert not of_kind(events, PlanMade)[-1].plan.component("transformer").streamed_blocks
    [message] = told(events)
    assert message.startswith("Another program gave memory back: the whole transformer")


def test_what_fell_after_it_came_back_is_relieved_again(
    quiet: dict[int, np.ndarray], tmp_path: Path
) -> None:
    live = Live()
    ask: Action = lambda requests: requests.ask(30 * MIB, 0, REASON)  # noqa: E731
    offer: Action = lambda requests: requests.offer(BACK)  # noqa: E731
    events = live.play(job(tmp_path), {2: ask, 5: offer, 9: ask})
    seen = live.asked.seen
    assert seen[2] < seen[1]
    assert seen[5] > seen[4]
    assert seen[9] < seen[8]
    assert len(told(events)) == 1
    assert same(pixels(events), quiet)


def test_before_each_part_memory_is_looked_at_afresh(tmp_path: Path) -> None:
    live = Live(others=game_until(2))
    wanted = replace(job(tmp_path, images=2), limits=PresetLimits(max_images=1))
    events = live.play(wanted, {})
    plans = of_kind(events, PlanMade)
    assert plans[0].plan.component("transformer").streamed_blocks
    assert not plans[-1].plan.component("transformer").streamed_blocks
    [message] = told(events)
    assert "more of the GPU are free than before: " in message
    assert len(pixels(events)) == 2


def test_weights_on_the_disk_come_and_go_too(quiet: dict[int, np.ndarray], tmp_path: Path) -> None:
    ram = HostProfile(total_bytes=64 * GIB, available_bytes=GIB + 6 * MIB, swap_free_bytes=GIB)
    live = Live(host=ram)
    script = {2: change(LITTLE), 9: change(budget(66)), 14: change(PLENTY)}
    events = live.play(job(tmp_path), script)
    on_disk = [one.plan.component("transformer").file_blocks for one in of_kind(events, PlanMade)]
    assert [bool(blocks) for blocks in on_disk] == [False, True, True, False]
    assert same(pixels(events), quiet)


def test_a_job_is_taken_back_while_weights_move_in_ram(
    quiet: dict[int, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ram = HostProfile(total_bytes=64 * GIB, available_bytes=GIB + 6 * MIB, swap_free_bytes=GIB)
    live = Live(host=ram)
    broken_off: list[bool] = []
    follow = HostStore.follow

    def noted(store: HostStore, host: HostNetwork, blocks: Any, check: Any) -> bool:
        broken_off.append(True)
        moved = follow(store, host, blocks, check)
        broken_off[-1] = False
        return moved

    monkeypatch.setattr(HostStore, "follow", noted)

    def back_and_cancelled(requests: ReliefRequests) -> None:
        requests.change_budget(PLENTY)
        live.flag.set()

    events = live.start(job(tmp_path), {2: change(budget(66)), 9: back_and_cancelled})
    assert isinstance(events[-1], JobCancelled)
    assert broken_off == [False, True]
    live.flag = CancelFlag()
    assert same(pixels(live.play(job(tmp_path), {})), quiet)


def test_a_part_that_begins_with_less_memory_is_placed_anew(tmp_path: Path) -> None:
    live = Live(others=(OtherUse(at=Moment(phase=Phase.SAVE), bytes=50 * MIB),))

    def begin_game(event: object) -> None:
        # While nothing is computed on the device, so that no failure tells of it.
        if isinstance(event, PhaseStarted) and event.phase is Phase.SAVE:
            with live.simulated.watch(Phase.SAVE):
                pass

    live.listener = begin_game
    wanted = replace(
        job(tmp_path, images=2, width_px=256, height_px=256), limits=PresetLimits(max_images=1)
    )
    events = live.play(wanted, {})
    assert any("less of the GPU are free than before" in one for one in told(events))
    assert of_kind(events, PlanMade)[-1].plan.component("text_encoder").placement is Placement.TURNS
