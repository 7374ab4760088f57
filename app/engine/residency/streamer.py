"""The steady loop of streaming: before a block computes its weights are there, and others follow.

The host tells the device what to do and is at most two blocks ahead of it. It waits for nothing
else, allocates nothing, and points the block's parameters at memory that is there already.
"""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from app.engine.residency.copy_order import AHEAD, CopyOrder
from app.engine.residency.file_turns import FileTurns
from app.engine.residency.host_block import BlockReader, HostBlock, HostTier
from app.engine.residency.leaves import Binding, ModuleTensors
from app.engine.residency.transfers import Mark, Transfers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamBlock:
    """A block of a network, and its weights on the host."""

    host: HostBlock
    tensors: ModuleTensors


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
            reader: Of blocks that are on the disk.
            cyclic: Whether the first block comes again after the last without a pause.
            bindings: Of the blocks that stay, those that are in their buffers already.

        Raises:
            ValueError: The arena is too small, or nobody reads what is on the disk.
        """
        self.bindings = {index: one for index, one in (bindings or {}).items() if index in resident}
        self._blocks = tuple(blocks)
        self._transfers = transfers
        self._resident = dict(resident)
        self._arena = arena
        on_disk = [block for block in blocks if block.host.tier is HostTier.FILE]
        if on_disk and reader is None:
            raise ValueError("there are blocks on the disk and nobody reads them")
        self._files = FileTurns(reader, transfers) if reader is not None and on_disk else None
        self._order = CopyOrder(
            [block.host.layout.size_bytes for block in blocks],
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
        self._last_copy: Mark | None = None
        self._computed: deque[Mark] = deque(maxlen=AHEAD)
        # What was told to compute before the arena was begun anew may still use it.
        self._before_start: Mark | None = None
        self._applied: list[Binding | None] = [None] * len(blocks)
        self._computing = False

    @property
    def next_block(self) -> int:
        """That computes next if all goes in order."""
        return self._order.ended % len(self._blocks)

    def start(self, block: int = 0) -> None:
        """Begin with any block: what is in the arena is forgotten, and copies are begun."""
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
        # Out of order, or again after it failed.
        if self._computing or order.ended % len(self._blocks) != block:
            self.start(block)
        self._computing = True
        if len(self._computed) == AHEAD:
            self._transfers.wait_on_host(self._computed[0])
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
        """The block that `before` was called for has been told to compute."""
        self._computing = False
        self._computed.append(self._transfers.record())
        self._order.end()
        self._advance()

    def drain(self) -> None:
        """Wait until nothing is copied any more; what was to be copied next is begun anew."""
        if self._last_copy is not None:
            self._transfers.wait_on_host(self._last_copy)
            self._last_copy = None
        due, self._due = self._due, None
        if due is not None and due.stays:
            self._missing.appendleft(due.block)
        if self._files is not None:
            self._files.drop()
        self._slot_of_turn.clear()
        self._copied.clear()

    def _advance(self, *, due_now: bool = False) -> None:
        """Begin all copies that may begin; wait only for a block on the disk that is due now."""
        order = self._order
        while (due := self._due or self._next_due()) is not None:
            host = self._blocks[due.block].host
            source = host.packed()
            if source is None:
                source = self._read(due, host, wait=due_now and due.turn <= order.turn)
                if source is None:
                    self._due = due
                    break
            self._due = None
            copied = self._transfers.copy(due.target, source, self._mark_before(due))
            self._last_copy = copied
            if host.tier is HostTier.FILE and self._files is not None:
                self._files.note_copy(due.turn, copied)
            self._copied[due.turn] = copied
            if due.stays:
                self.bindings[due.block] = due.binding
            else:
                self._slot_of_turn[due.turn] = due.binding
        if self._files is not None:
            self._files.read_ahead(self._coming_from_disk())

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

    def _mark_before(self, due: _Due) -> Mark | None:
        """What must be computed before a copy; the host has waited for what is longer ago."""
        start, self._before_start = self._before_start, None
        ago = self._order.ended - due.after
        if due.after >= 0 and ago <= len(self._computed):
            return self._computed[-ago]
        return start

    def _read(self, due: _Due, host: HostBlock, *, wait: bool) -> torch.Tensor | None:
        if self._files is None:
            raise RuntimeError(f"block {due.block} has left RAM")
        return self._files.take(due.turn, host, wait=wait)

    def _coming_from_disk(self) -> Generator[tuple[int, HostBlock]]:
        order = self._order
        if self._due is not None:
            yield self._due.turn, self._blocks[self._due.block].host
        missing = set(self._missing)
        for turn in range(order.turn, order.horizon):
            block = turn % len(self._blocks)
            host = self._blocks[block].host
            if host.tier is HostTier.FILE and (block in missing or order.comes_in(turn)):
                yield turn, host

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
