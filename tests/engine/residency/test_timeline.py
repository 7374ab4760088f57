"""The timeline foretells what the streamer does: the same rules by other means, on a clock."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.residency.host_block import HostBlock, HostTier
from app.engine.residency.host_network import HostNetwork, packed_network
from app.engine.residency.residence import Residence
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.timeline import MEASURED_PASSES, WARM_UP_PASSES, StepTime, step_seconds
from app.engine.simulated_story import Story
from app.engine.simulated_transfers import SimulatedTransfers
from app.engine.story_timeline import Timeline
from tests.fakes.block_stack import BlockStack, plan_of
from tests.fakes.clocked_reader import ClockedReader

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


SIZES = [
    block.layout.size_bytes for block in packed_network("transformer", BlockStack(LAYERS)).blocks
]
PINNED, PAGEABLE, FILE = HostTier.PINNED, HostTier.PAGEABLE, HostTier.FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSide:
    """Where blocks are on the host.

    Attributes:
        tiers: Of each block.
        locked: Whether the reader's buffers are.
        read_s: For each block to be read into one, if it is.
    """

    tiers: Sequence[HostTier] = (PINNED,) * len(LAYERS)
    locked: bool = True
    read_s: Sequence[float] = (0.0,) * len(LAYERS)

    @property
    def bouncing(self) -> dict[int, float]:
        """Seconds to read blocks that go through buffers."""
        return {
            block: self.read_s[block]
            for block, tier in enumerate(self.tiers)
            if tier is FILE or (tier is PAGEABLE and self.locked)
        }

    @property
    def blocking(self) -> list[int]:
        """Blocks whose copies keep the host."""
        return [] if self.locked else [b for b, tier in enumerate(self.tiers) if tier is not PINNED]


class TieredBlock:
    """A packed block that says it is elsewhere."""

    def __init__(self, block: HostBlock, tier: HostTier) -> None:
        self.layout = block.layout
        self.tier = tier
        self._block = block

    def packed(self) -> torch.Tensor | None:
        return None if self.tier is FILE else self._block.packed()

    def read_into(self, out: torch.Tensor) -> None:
        self._block.read_into(out)


class Streamed:
    """What the streamer itself takes on a device with a clock."""

    def __init__(
        self,
        compute_s: Sequence[float],
        streamed: Sequence[int],
        slots_bytes: int,
        bytes_per_s: float,
        *,
        cyclic: bool = True,
        host_side: HostSide | None = None,
    ) -> None:
        side = host_side or HostSide()
        self.clock = Timeline(Story(capacity_bytes=1))
        self.transfers = SimulatedTransfers(
            Unlimited(), self.clock, bytes_per_s, is_pinned=self._is_pinned
        )
        self.network = BlockStack(LAYERS)
        # What is besides the blocks takes time, too, which nobody foretells.
        packed = packed_network("transformer", self.network, on_host=[self.network.entry])
        blocks = tuple(map(TieredBlock, packed.blocks, side.tiers))
        self.reader = ClockedReader(
            self.transfers,
            lambda block: side.read_s[blocks.index(block)],
            locked=side.locked,
        )
        self.pinned = {
            found.data_ptr()
            for block in blocks
            if block.tier is PINNED and (found := block.packed()) is not None
        }
        self.name = "transformer" if cyclic else "text_encoder"
        host = HostNetwork(
            name=self.name,
            network=self.network,
            rest=packed.rest,
            blocks=blocks,
            modules=packed.modules,
            reader=self.reader,
        )
        self.residence = Residence(host, self.transfers)
        self.residence.follow(plan_of(streamed, slots_bytes=slots_bytes, name=self.name))
        self._compute_s = compute_s
        self._began_s = 0.0
        for block, module in enumerate(host.modules):
            module.register_forward_pre_hook(lambda *_inputs, block=block: self._compute(block))
        with torch.no_grad():
            self._expected = BlockStack(LAYERS)(torch.ones(8))

    def __enter__(self) -> "Streamed":
        self.residence.active = True
        self.residence.enter()
        return self

    def __exit__(self, *_error: object) -> None:
        self.residence.active = False
        self.residence.leave()

    def passes(self, count: int) -> StepTime:
        """Go on for so many."""
        with torch.no_grad():
            for _pass in range(count):
                assert torch.equal(self.network(torch.ones(8)), self._expected)
        began_s, self._began_s = self._began_s, self.clock.seconds
        times = self.transfers.take_times()
        return StepTime(
            seconds=(self.clock.seconds - began_s) / count,
            waited_s=times.waited_s / count,
            copying_s=times.copying_s / count,
        )

    def _compute(self, block: int) -> None:
        self.clock.seconds += self._compute_s[block]

    def _is_pinned(self, source: torch.Tensor) -> bool:
        if source.data_ptr() in self.reader.buffers:
            return self.reader.is_locked(source.nbytes)
        return source.data_ptr() in self.pinned or not source.nbytes


HOST_SIDES = st.one_of(
    st.just(HostSide()),
    st.builds(
        HostSide,
        tiers=st.lists(st.sampled_from(HostTier), min_size=len(LAYERS), max_size=len(LAYERS)),
        locked=st.booleans(),
        read_s=st.lists(st.integers(0, 12), min_size=len(LAYERS), max_size=len(LAYERS)),
    ),
)


@pytest.mark.parametrize("cyclic", [True, False])
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=len(LAYERS), max_size=len(LAYERS)),
    st.sets(st.sampled_from(BLOCKS), min_size=1).map(sorted),
    st.integers(0, 16),
    st.sampled_from((0.5, 1.0, 3.0)),
    HOST_SIDES,
)
def test_what_is_foretold_is_what_the_streamer_takes(
    cyclic: bool,
    compute_s: list[int],
    streamed: list[int],
    more: int,
    blocks_per_s: float,
    host_side: HostSide,
):
    if cyclic:
        # What stays comes in the first passes, too, and nobody foretells that.
        host_side = replace(
            host_side,
            tiers=[tier if b in streamed else PINNED for b, tier in enumerate(host_side.tiers)],
        )
    else:
        streamed = list(BLOCKS)
    slots = least_slots_bytes([SIZES[block] for block in streamed]) + more * 512
    bytes_per_s = blocks_per_s * SIZES[-1]
    expected = step_seconds(
        compute_s,
        SIZES,
        streamed,
        slots,
        bytes_per_s,
        cyclic=cyclic,
        read_s={b: s for b, s in host_side.bouncing.items() if b in streamed},
        blocking=host_side.blocking,
    )
    with Streamed(
        compute_s, streamed, slots, bytes_per_s, cyclic=cyclic, host_side=host_side
    ) as running:
        if cyclic:
            running.passes(WARM_UP_PASSES)
        seen = running.passes(MEASURED_PASSES if cyclic else 1)
    assert seen.seconds == pytest.approx(expected.seconds)
    assert seen.waited_s == pytest.approx(expected.waited_s, abs=1e-9)
    assert expected.seconds == pytest.approx(sum(compute_s) + expected.waited_s)


def test_blocks_of_ordinary_ram_hide_as_pinned_ones_do():
    """The readers copy within RAM faster than the link: nothing of it is seen."""
    sizes, compute_s = [1] * 24, [1.0] * 24
    pinned = step_seconds(compute_s, sizes, range(24), 3, 1.0)
    bounced = step_seconds(
        compute_s, sizes, range(24), 3, 1.0, read_s=dict.fromkeys(range(24), 0.4)
    )
    assert bounced.seconds == pytest.approx(pinned.seconds) == pytest.approx(24.0)


def test_a_disk_that_is_slower_than_the_link_is_waited_for():
    sizes, compute_s = [1] * 24, [1.0] * 24
    read_s = dict.fromkeys(range(0, 24, 2), 3.0)
    found = step_seconds(compute_s, sizes, range(24), 3, 2.0, read_s=read_s)
    assert found.seconds == pytest.approx(12 * 3.0)


def test_copies_that_keep_the_host_hide_as_far_as_they_can():
    """Without any pinned memory: a block is copied while the one before it computes."""
    sizes, compute_s = [1] * 24, [1.0] * 24
    found = step_seconds(compute_s, sizes, range(24), 3, 1.25, blocking=range(24))
    assert found.seconds == pytest.approx(24.0)
    slow = step_seconds(compute_s, sizes, range(24), 3, 0.5, blocking=range(24))
    assert slow.seconds == pytest.approx(48.0)


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
