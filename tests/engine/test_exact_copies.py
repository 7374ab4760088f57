"""What a whole run copies to the device is what its passes need, and not a byte more."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import JobFinished, Notice, PlanMade
from app.core.jobs import Job, Phase
from app.core.plan import GenerationPlan, Placement
from app.core.policy import MemoryMode
from app.engine.placement import Placer
from app.engine.residency.transfers import Mark
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Failure, Moment
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, simulated
from tests.fakes.block_stack import BlockStack, DeviceWith
from tests.fakes.block_stack import plan_of as streamed_plan
from tests.fakes.transfers import LateTransfers
from tests.tiny_models import make_tiny_model

pytestmark = pytest.mark.usefixtures("quick_forecasts")

STEPS = 3
PROMPTS = PASSES = 2
"""With guidance of its own: the prompt's and the one that it pushes away from."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein-base", tmp_path_factory.mktemp("base"))


class Copies:
    """How often each place in RAM was copied to a device, and how much that was."""

    def __init__(self, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: Counter[tuple[int, int]] = Counter()
        self._kept: list[torch.Tensor] = []
        transfers = device.transfers
        copy = transfers.copy

        def counted(target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
            self.times[source.data_ptr(), source.numel()] += 1
            self._kept.append(source)  # Or its place might become another's.
            return copy(target, source, after)

        monkeypatch.setattr(transfers, "copy", counted)

    def each(self) -> dict[int, int]:
        """Of how many places were copied so many times."""
        return Counter(self.times.values())


def streamed(base: Path, out: Path, **request: Any) -> Job:
    """All blocks of text encoder and transformer come in each time they run."""
    values = {"images": 1, "steps": STEPS, "guidance": 4.0, "seed": 3, **request}
    policy = replace(POLICY, mode=MemoryMode.MINIMAL)
    return replace(make_job(base, out, **values), policy=policy, previews=False)


def plan_of(events: list[Any]) -> GenerationPlan:
    assert isinstance(events[-1], JobFinished), events[-1]
    plan = of_kind(events, PlanMade)[0].plan
    for name in ("text_encoder", "transformer"):
        assert plan.component(name).placement is Placement.STREAMED
        assert len(plan.component(name).streamed_blocks) > 2, "more than pass through at once"
    return plan


@pytest.fixture
def device() -> SimulatedDevice:
    return simulated()


def test_each_block_comes_once_a_pass_and_the_rest_once(
    base: Path, tmp_path: Path, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(device, monkeypatch)
    plan = plan_of(Runs(device).run(streamed(base, tmp_path)))
    assert copies.each() == {
        STEPS * PASSES: len(plan.component("transformer").streamed_blocks),
        PROMPTS: len(plan.component("text_encoder").streamed_blocks),
        1: 3,
    }


def test_each_part_of_a_batch_is_a_run_of_its_own(
    base: Path, tmp_path: Path, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(device, monkeypatch)
    wanted = streamed(base, tmp_path, images=2)
    wanted = replace(wanted, limits=replace(wanted.limits, max_images=1))
    plan = plan_of(Runs(device).run(wanted))
    assert plan.batch == 1
    blocks = [len(plan.component(name).streamed_blocks) for name in ("text_encoder", "transformer")]
    assert copies.each() == {
        PROMPTS: blocks[0] + 2,  # And the rest of the other two networks, once a part.
        2 * STEPS * PASSES: blocks[1],
        1: 1,
    }


def test_a_step_that_is_repeated_expects_its_own_passes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = simulated(Failure(at=Moment(phase=Phase.DENOISE, step=1, operation=200)))
    runs = Runs(device)
    copies = Copies(device, monkeypatch)

    def note(event: object) -> None:
        if isinstance(event, Notice) and event.code == "memory.repeated":
            copies.times.clear()

    runs.on_event = note
    plan = plan_of(runs.run(streamed(base, tmp_path)))
    assert copies.each() == {
        (STEPS - 1) * PASSES: len(plan.component("transformer").streamed_blocks),
        1: 2,
    }


class Stack:
    """A network of a few blocks, all streamed, on a device whose copies come late."""

    def __init__(self) -> None:
        self.network = BlockStack((2, 1, 1, 2, 1, 1))
        self.transfers = LateTransfers()
        self.placer = Placer({"transformer": self.network}, DeviceWith(self.transfers))
        self.placer.replace([streamed_plan(range(6))])

    def copies_of(self, passes: int) -> int:
        """In a phase of so many passes, whose beginning is over."""
        with torch.no_grad():
            for _ in range(passes):
                self.network(torch.rand(1, 8))
        self.placer.end_phase("transformer")
        copies, self.transfers.copies = self.transfers.copies, 0
        return copies

    def begin(self, expected: int | None) -> None:
        self.placer.begin_phase("transformer")
        if expected is not None:
            self.placer.expect("transformer", expected)


def test_what_is_expected_saves_the_copies_for_the_next_pass() -> None:
    stack = Stack()
    stack.begin(3)
    assert stack.copies_of(3) == 1 + 3 * 6
    stack.begin(1)
    assert stack.copies_of(2) == 1 + 2 * 6, "one more than was expected"
    stack.begin(None)
    assert stack.copies_of(3) > 1 + 3 * 6


@pytest.mark.parametrize("evicted", [False, True])
def test_what_was_expected_is_forgotten_with_the_phase(evicted: bool) -> None:
    stack = Stack()
    stack.begin(1)
    if evicted:
        stack.placer.evict()
    else:
        stack.placer.end_phase("transformer")
    stack.transfers.copies = 0
    stack.begin(None)
    assert stack.copies_of(1) > 1 + 6


def test_a_change_between_two_blocks_goes_on_expecting() -> None:
    stack = Stack()

    def change(block: int) -> None:
        if block == 3:
            stack.network.between = lambda _block: None
            stack.placer.replace([streamed_plan((1, 2, 3, 4, 5))])

    stack.network.between = change
    stack.begin(2)
    # Two were on their way at the change, and come again.
    assert stack.copies_of(2) == 1 + 2 * 6 + 2
