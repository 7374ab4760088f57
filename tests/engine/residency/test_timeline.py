"""The timeline foretells what the streamer does: the same rules by other means, on a clock."""

import contextlib
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.placement import Placer
from app.engine.residency.host_network import HostNetwork, packed_network
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.timeline import MEASURED_PASSES, WARM_UP_PASSES, StepTime, step_seconds
from app.engine.simulated_story import Story
from app.engine.simulated_transfers import SimulatedTransfers
from app.engine.story_timeline import Timeline
from tests.fakes.block_stack import BlockStack, DeviceWith, plan_of

LAYERS = (2, 2, 3, 1, 1, 1, 1)
BLOCKS = range(len(LAYERS))


class Unlimited:
    """Memory without end or accounts."""

    def take_buffer(self, size_bytes: int) -> None:
        pass

    def keep_off(self, weights: torch.Tensor) -> None:
        pass

    def on_host(self) -> contextlib.AbstractContextManager[None, bool | None]:
        return contextlib.nullcontext()


def streamed_pass(
    compute_s: Sequence[float],
    streamed: Sequence[int],
    slots_bytes: int,
    bytes_per_s: float,
    *,
    cyclic: bool,
) -> StepTime:
    """What the streamer itself takes on a device with a clock."""
    clock = Timeline(Story(capacity_bytes=1))
    transfers = SimulatedTransfers(Unlimited(), clock, bytes_per_s)
    network = BlockStack(LAYERS)
    packed = packed_network("transformer", network)
    name = "transformer" if cyclic else "text_encoder"
    host = HostNetwork(
        name=name,
        network=network,
        rest=packed.rest,
        blocks=packed.blocks,
        modules=packed.modules,
    )
    placer = Placer({name: host}, DeviceWith(transfers))
    placer.replace([plan_of(streamed, slots_bytes=slots_bytes, name=name)])

    def compute(block: int) -> None:
        clock.seconds += compute_s[block]

    for block, module in enumerate(host.modules):
        module.register_forward_pre_hook(lambda *_inputs, block=block: compute(block))
    passes = MEASURED_PASSES if cyclic else 1
    with torch.no_grad(), placer.phase(name):
        for _pass in range(WARM_UP_PASSES if cyclic else 0):
            network(torch.ones(8))
        placer.take_streaming()
        began_s = clock.seconds
        for _pass in range(passes):
            network(torch.ones(8))
        seconds = clock.seconds - began_s
        times = transfers.take_times()
    return StepTime(
        seconds=seconds / passes,
        waited_s=times.waited_s / passes,
        copying_s=times.copying_s / passes,
    )


@pytest.mark.parametrize("cyclic", [True, False])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=len(LAYERS), max_size=len(LAYERS)),
    st.sets(st.sampled_from(BLOCKS), min_size=1).map(sorted),
    st.integers(0, 16),
    st.sampled_from((0.5, 1.0, 3.0)),
)
def test_what_is_foretold_is_what_the_streamer_takes(
    cyclic: bool, compute_s: list[int], streamed: list[int], more: int, blocks_per_s: float
):
    sizes = [
        block.layout.size_bytes
        for block in packed_network("transformer", BlockStack(LAYERS)).blocks
    ]
    if not cyclic:
        # What stays comes in the first pass, too, and nobody foretells that.
        streamed = list(BLOCKS)
    slots = least_slots_bytes([sizes[block] for block in streamed]) + more * 512
    bytes_per_s = blocks_per_s * sizes[-1]
    expected = step_seconds(compute_s, sizes, streamed, slots, bytes_per_s, cyclic=cyclic)
    seen = streamed_pass(compute_s, streamed, slots, bytes_per_s, cyclic=cyclic)
    assert seen.seconds == pytest.approx(expected.seconds)
    assert seen.waited_s == pytest.approx(expected.waited_s, abs=1e-9)
    assert expected.seconds == pytest.approx(sum(compute_s) + expected.waited_s)


def test_streaming_hides_behind_computing_that_takes_as_long():
    """A large model: 8 blocks of twice the size of 48 others, all of them streamed."""
    sizes = [2] * 8 + [1] * 48
    compute_s = [2.0] * 8 + [1.0] * 48
    hidden = step_seconds(compute_s, sizes, range(56), 4, 1.0)
    assert hidden == StepTime(seconds=64.0, waited_s=0.0, copying_s=64.0)
    slow = step_seconds(compute_s, sizes, range(56), 4, 0.5)
    assert slow == StepTime(seconds=128.0, waited_s=64.0, copying_s=128.0)


def test_blocks_that_stay_are_best_spread_over_the_stack():
    sizes, compute_s = [1] * 24, [1.0] * 24
    spread = step_seconds(compute_s, sizes, range(0, 24, 2), 2, 0.5)
    at_the_end = step_seconds(compute_s, sizes, range(12), 2, 0.5)
    assert spread.seconds == 24.0
    assert at_the_end.seconds > 30.0


def test_a_pass_alone_waits_for_its_first_block():
    assert step_seconds([1.0] * 4, [2] * 4, range(4), 4, 2.0, cyclic=False) == StepTime(
        seconds=5.0, waited_s=1.0, copying_s=4.0
    )


def test_nothing_streamed_takes_no_time():
    assert step_seconds([1.0, 2.0], [5, 5], (), 0, 1.0) == StepTime(
        seconds=3.0, waited_s=0.0, copying_s=0.0
    )
