"""The steady loop of streaming: before a block computes its weights are there, and others follow.

The host tells the device what to do and is at most two blocks ahead of it. It waits for nothing
else, allocates nothing, and points the block's parameters at memory that is there already.

Blocks on the disk, and those in RAM that is not pinned, go through pinned bounce buffers, which
other threads fill ahead. Where none could be had, a copy keeps the host until it is done: then one
is made at a time, when the device has been told to compute what is there.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from app.engine.residency.bounce_turns import BounceTurns
from app.engine.residency.copy_order import AHEAD, CopyOrder
from app.engine.residency.host_block import BlockReader, HostBlock, HostTier
from app.engine.residency.leaves import Binding, ModuleTensors
from app.engine.residency.transfers import Mark, Transfers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamBlock:
    """A block of a network, and its weights on the host."""

    host: HostBlock
    tensors: ModuleTensors


class _Way(NamedTuple):
    """How a block comes from the host."""

    bounces: bool
    """Through a bounce buffer."""
    blocks_host: bool
    """Its copy keeps the host until it is done."""

    @classmethod
    def of(cls, host: HostBlock, reader: BlockReader | None, transfers: Transfers) -> "_Way":
        """Through bounce buffers from the disk; from ordinary RAM where that frees the host."""
        pinned = host.tier is HostTier.PINNED
        needed = transfers.needs_pinned and not pinned
        locked = needed and reader is not None and reader.is_locked(host.layout.size_bytes)
        return cls(bounces=host.tier is HostTier.FILE or locked, blocks_host=needed and not locked)


class _Due(NamedTuple):
    """A copy that may begin."""

    turn: int
    block: int
    target: torch.Tensor
    binding: Binding
    after: int
    stays: bool


class Streamer:
    """Brings blocks to a device in the order they compute: some to stay, the others in turns.

    Attributes:
        bindings: Of the blocks that stay, by number, as far as their copies were begun.
    """

    def __init__(
        self,
        blocks: Sequence[StreamBlock],
        transfers: Transfers,
        *,
        resident: Mapping[int, torch.Tensor],
        arena: torch.Tensor | None,
        reader: BlockReader | None = None,
        cyclic: bool = True,
        bindings: Mapping[int, Binding] | None = None,
    ) -> None:
        """Copy nothing yet.

        Args:
            blocks: In the order they run.
            transfers: To the device.
            resident: A buffer on the device for each block that stays, by its number.
            arena: That the others pass through; None when there are none.
            reader: Of blocks that go through bounce buffers.
            cyclic: Whether passes follow one another as long as nothing is expected.
            bindings: Of the blocks that stay, those that are in their buffers already.

        Raises:
            ValueError: The arena is too small, or nobody reads what is on the disk.
        """
        self.bindings = dict(bindings or {})
        self._blocks = tuple(blocks)
        self._transfers = transfers
        self._resident = dict(resident)
        self._arena = arena
        ways = [_Way.of(block.host, reader, transfers) for block in blocks]
        if any(way.bounces for way in ways) and reader is None:
            raise ValueError("there are blocks on the disk and nobody reads them")
        self._ways = tuple(ways)
        bounces = reader is not None and any(way.bounces for way in ways)
        self._bounced = BounceTurns(reader, transfers) if reader is not None and bounces else None
        sizes = [block.host.layout.size_bytes for block in blocks]
        self._order = CopyOrder(
            sizes,
            [index for index in range(len(blocks)) if index not in resident],
            0 if arena is None else arena.numel(),
            cyclic=cyclic,
        )
        self._new_bindings = {
            index: blocks[index].tensors.bind(buffer)
            for index, buffer in resident.items()
            if index not in self.bindings
        }
        self._slots: dict[tuple[int, int], tuple[torch.Tensor, Binding]] = {}
        for index, begin in self._order.places():
            self._slot(index, begin)
        # Blocks that stay and were not copied yet, in the order of their turns.
        self._missing = deque(sorted(self._new_bindings))
        self._due: _Due | None = None
        self._slot_of_turn: dict[int, Binding] = {}
        self._copied: dict[int, Mark] = {}
        # Of blocks that stay, those whose copies may be on their way, and their bytes.
        self._staying: deque[tuple[Mark, int]] = deque()
        self._most_staying_bytes = AHEAD * max(sizes, default=0)
        self._may_copy = False
        self._computed: deque[Mark] = deque(maxlen=AHEAD)
        # What was told to compute before the arena was begun anew may still use it.
        self._before_start: Mark | None = None
        self._applied: list[Binding | None] = [None] * len(blocks)
        self._computing = False
        # Whether copies go on from where they are; not while, or after, one of them failed.
        self._goes_on = True

    @property
    def next_block(self) -> int:
        """That computes next if all goes in order."""
        return self._order.ended % len(self._blocks)

    @property
    def passes_left(self) -> int | None:
        """See `expect`."""
        return self._order.passes_left

    def expect(self, passes: int | None) -> None:
        """Copy nothing for a pass that does not come.

        Args:
            passes: Through all blocks, that are still to end; None is without end.
        """
        self._order.expect(passes)

    def start(self, block: int = 0) -> None:
        """Begin with any block: what is in the arena is forgotten, and copies are begun."""
        self._goes_on = False
        self.drain()
        self._order.restart(block)
        self._before_start = self._transfers.record()
        self._missing = deque(
            sorted(self._missing, key=lambda index: (index - block) % len(self._blocks))
        )
        self._advance()

    def before(self, block: int) -> None:
        """A block is about to compute: have it use its weights, which are there by then.

        Raises:
            OSError: It is on the disk and cannot be read.
        """
        order = self._order
        # Out of order, or again after it, or what it needs, failed.
        if self._computing or not self._goes_on or order.ended % len(self._blocks) != block:
            self.start(block)
        self._computing = True
        order.begin()
        self._advance(due_now=True)
        turn = order.turn
        copied = self._copied.pop(turn, None)
        if copied is not None:
            self._transfers.wait(copied)
        binding = self._slot_of_turn.pop(turn, None) or self._kept(block)
        if self._applied[block] is not binding:
            binding.apply()
            self._applied[block] = binding

    def after(self) -> None:
        """The block that `before` was called for has been told to compute.

        The wait is here, so that whoever looks before the next block whether the job was taken
        back looks when one block is left to compute, not two.
        """
        self._computing = False
        self._computed.append(self._transfers.record())
        self._order.end()
        self._advance()
        if len(self._computed) == AHEAD:
            self._transfers.wait_on_host(self._computed[0])

    def let_go(self) -> None:
        """Want no block any more; copies may be on their way until `drain`."""
        due, self._due = self._due, None
        if due is not None and due.stays:
            self._missing.append(due.block)
        self._slot_of_turn.clear()
        self._copied.clear()
        if self._bounced is not None:
            self._bounced.drop_readings()

    def drain(self) -> None:
        """Wait until nothing is copied any more; what was to be copied next is begun anew."""
        self.let_go()
        may_copy, self._may_copy = self._may_copy, False
        try:
            if may_copy:
                self._transfers.settle()
        finally:
            if self._bounced is not None:
                self._bounced.drop()

    def _advance(self, *, due_now: bool = False) -> None:
        """Begin all copies that may begin; wait only for a block that is due now.

        When this fails, what was to be copied is still due, and `start` begins anew.
        """
        self._goes_on = False
        order = self._order
        host_is_free = True
        while (due := self._due or self._next_due()) is not None:
            self._due = due
            is_late = due_now and due.turn <= order.turn
            bounces, blocks_host = self._ways[due.block]
            if blocks_host and not is_late:
                # Also not when it would wait for the last block that the device was told of.
                waits = due.turn > order.ended and due.after == order.ended - 1
                if due_now or waits or not host_is_free:
                    break
            if due.stays and not is_late and not self._may_stay(due.target.numel()):
                break
            source = self._source(due, wait=is_late)
            if source is None:
                break
            copied = self._transfers.copy(due.target, source, self._mark_before(due))
            self._may_copy = True
            if bounces and self._bounced is not None:
                self._bounced.note_copy(due.turn, copied)
            self._due = None
            self._copied[due.turn] = copied
            if due.stays:
                self.bindings[due.block] = due.binding
                self._staying.append((copied, due.target.numel()))
            else:
                self._slot_of_turn[due.turn] = due.binding
            host_is_free = not blocks_host
        if self._bounced is not None:
            self._bounced.read_ahead(self._coming_through_bounces())
        self._goes_on = True

    def _next_due(self) -> _Due | None:
        order = self._order
        if self._missing:
            block = self._missing[0]
            turn = self._turn_of(block)
            if turn < order.next_turn:
                self._missing.popleft()
                binding = self._new_bindings[block]
                return _Due(turn, block, self._resident[block], binding, -1, stays=True)
        copy = order.take()
        if copy is None:
            return None
        target, binding = self._slot(copy.block, copy.begin)
        return _Due(copy.turn, copy.block, target, binding, copy.after, stays=False)

    def _may_stay(self, size_bytes: int) -> bool:
        """Whether one more block that stays may be on its way.

        There is room for all of them, but copies that were begun are not taken back.
        """
        staying = self._staying
        while staying and self._transfers.is_done(staying[0][0]):
            staying.popleft()
        return size_bytes + sum(one[1] for one in staying) <= self._most_staying_bytes

    def _mark_before(self, due: _Due) -> Mark | None:
        """What must be computed before a copy; the host has waited for what is longer ago."""
        start, self._before_start = self._before_start, None
        ago = self._order.ended - due.after
        if due.after >= 0 and ago <= len(self._computed):
            return self._computed[-ago]
        return start

    def _source(self, due: _Due, *, wait: bool) -> torch.Tensor | None:
        host = self._blocks[due.block].host
        if self._bounced is not None and self._ways[due.block].bounces:
            return self._bounced.take(due.turn, host, wait=wait)
        packed = host.packed()
        if packed is None:
            raise RuntimeError(f"block {due.block} has left RAM")
        return packed

    def _coming_through_bounces(self) -> Generator[tuple[int, HostBlock]]:
        order = self._order
        if self._due is not None and self._ways[self._due.block].bounces:
            yield self._due.turn, self._blocks[self._due.block].host
        missing = set(self._missing)
        for turn in range(order.turn, order.horizon):
            block = turn % len(self._blocks)
            if self._ways[block].bounces and (block in missing or order.comes_in(turn)):
                yield turn, self._blocks[block].host

    def _turn_of(self, block: int) -> int:
        turn = self._order.turn
        return turn + (block - turn) % len(self._blocks)

    def _slot(self, block: int, begin: int) -> tuple[torch.Tensor, Binding]:
        found = self._slots.get((block, begin))
        if found is None:
            if self._arena is None:
                raise RuntimeError("there is no arena")
            one = self._blocks[block]
            target = self._arena.narrow(0, begin, one.host.layout.size_bytes)
            found = self._slots[block, begin] = target, one.tensors.bind(target)
        return found

    def _kept(self, block: int) -> Binding:
        """Of a block that stays, or that has a place of its own in the arena."""
        binding = self.bindings.get(block)
        if binding is None and self._order.holds_all:
            binding = self._applied[block]
        if binding is None:
            raise RuntimeError(f"block {block} was never copied")
        return binding
