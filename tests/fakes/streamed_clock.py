"""A streamed network on a device with a clock, whose blocks are anywhere on the host."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from app.engine.residency.host_block import HostBlock, HostTier
from app.engine.residency.host_network import HostNetwork, packed_network
from app.engine.residency.residence import Residence
from app.engine.residency.timeline import StepTime
from app.engine.simulated_story import Story
from app.engine.simulated_transfers import SimulatedTransfers
from app.engine.story_timeline import Timeline
from tests.fakes.block_stack import BlockStack, plan_of
from tests.fakes.clocked_reader import ClockedReader

LAYERS = (2, 2, 3, 1, 1, 1, 1)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSide:
    """Where blocks are on the host.

    Attributes:
        tiers: Of each block.
        locked: Whether the reader's buffers are.
        read_s: For each block to be read into one, if it is.
    """

    tiers: Sequence[HostTier] = (HostTier.PINNED,) * len(LAYERS)
    locked: bool = True
    read_s: Sequence[float] = (0.0,) * len(LAYERS)

    @property
    def bouncing(self) -> dict[int, float]:
        """Seconds to read blocks that go through buffers."""
        return {
            block: self.read_s[block]
            for block, tier in enumerate(self.tiers)
            if tier is HostTier.FILE or (tier is HostTier.PAGEABLE and self.locked)
        }

    @property
    def blocking(self) -> list[int]:
        """Blocks whose copies keep the host."""
        return (
            []
            if self.locked
            else [b for b, tier in enumerate(self.tiers) if tier is not HostTier.PINNED]
        )


class TieredBlock:
    """A packed block that says it is elsewhere."""

    def __init__(self, block: HostBlock, tier: HostTier) -> None:
        self.layout = block.layout
        self.tier = tier
        self._block = block

    def packed(self) -> torch.Tensor | None:
        return None if self.tier is HostTier.FILE else self._block.packed()

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
            if block.tier is HostTier.PINNED and (found := block.packed()) is not None
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
        self.modules = host.modules
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
