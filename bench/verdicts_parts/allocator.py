"""Torch's CUDA caching allocator, its rules carried out on numbers: what a run reserves of a card.

After c10/cuda/CUDACachingAllocator.cpp of torch 2.x with one stream: sizes in blocks of 512 bytes,
a pool for up to 1 MiB and one for more, the smallest free block that suffices, split and merged
with its neighbours. Memory comes from the driver in one of two ways:

- in segments of 2 MiB, 20 MiB or whole multiples of 2 MiB, which go back only when all of one is
  free ("classic": what torch does where nothing is set, and on Windows);
- as one range of addresses a pool, backed piece by piece, in pieces of 2 or 20 MiB, and given back
  so ("expandable": what the engine asks torch for).

When the driver has no more, free memory goes back to it once, and then memory has run out.
"""

import bisect
from collections.abc import Callable, Iterator

from app.core.units import MIB

BLOCK_BYTES = 512
SMALL_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
LEAST_OWN_SEGMENT_BYTES = 10 * MIB
ROUND_BYTES = 2 * MIB

Ask = Callable[[int], bool]
"""Asks the driver for so many bytes; a negative number gives them back."""


class RoomError(Exception):
    """Memory has run out, also after all that was free went back to the driver."""


class Block:
    """A piece of a range of addresses.

    Attributes:
        begin: Its first address.
        size: In bytes.
        used: Whether it is handed out.
        backed: Whether there is memory behind it.
        before: The piece at the lower addresses beside it.
        after: The piece at the higher addresses beside it.
        pool: It belongs to.
    """

    __slots__ = ("after", "backed", "before", "begin", "pool", "size", "used")

    def __init__(self, pool: "_Pool", begin: int, size: int, *, backed: bool) -> None:
        self.pool = pool
        self.begin = begin
        self.size = size
        self.backed = backed
        self.used = False
        self.before: Block | None = None
        self.after: Block | None = None


class CachingAllocator:
    """Hands out memory of one device to one stream.

    Attributes:
        allocated_bytes: Handed out now, in whole blocks.
        reserved_bytes: Taken from the driver now.
    """

    def __init__(self, ask: Ask, *, expandable: bool) -> None:
        """Take nothing yet.

        Args:
            ask: The driver.
            expandable: Which of the two ways.
        """
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self._ask = ask
        kind = _ExpandablePool if expandable else _ClassicPool
        self._small = kind(self, small=True)
        self._large = kind(self, small=False)

    def take(self, size_bytes: int) -> Block:
        """Memory of at least this size.

        Raises:
            RoomError: There is none.
        """
        size = max(BLOCK_BYTES, -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES)
        pool = self._small if size <= SMALL_BYTES else self._large
        block = pool.find(size) or pool.grow(size)
        if block is None:
            self.release_cached()
            block = pool.grow(size)
        if block is None:
            raise RoomError
        pool.hand_out(block, size)
        self.allocated_bytes += block.size
        return block

    def give(self, block: Block) -> None:
        """Take memory back; it stays reserved."""
        self.allocated_bytes -= block.size
        block.used = False
        block.pool.merge(block)

    def release_cached(self) -> None:
        """Give free memory back to the driver, as far as that is possible."""
        self._large.release()
        self._small.release()

    def ask(self, size_bytes: int) -> bool:
        """Ask the driver; what it gives is reserved."""
        if not self._ask(size_bytes):
            return False
        self.reserved_bytes += size_bytes
        return True


class _Pool:
    """Free blocks by size, and what both ways have in common."""

    least_rest_bytes = BLOCK_BYTES
    """What is left of a block is split off from this size on."""

    def __init__(self, allocator: CachingAllocator, *, small: bool) -> None:
        self._allocator = allocator
        self._small = small
        self._free: list[tuple[int, int, Block]] = []

    def find(self, size: int) -> Block | None:
        """The smallest free block of at least this size, which is free no longer."""
        index = bisect.bisect_left(self._free, (size, 0))
        return self._free.pop(index)[2] if index < len(self._free) else None

    def grow(self, size: int) -> Block | None:
        """A block of new memory, which is not among the free ones; None where there is none."""
        raise NotImplementedError

    def release(self) -> None:
        """Give free memory back to the driver."""
        raise NotImplementedError

    def hand_out(self, block: Block, size: int) -> None:
        """Use a block, and split off what is not needed of it."""
        rest = block.size - size
        if rest >= self.least_rest_bytes:
            self.put(self.split(block, size))
        block.used = True

    def merge(self, block: Block) -> None:
        """Put a block among the free ones, as one with free ones beside it."""
        for beside in (block.before, block.after):
            if beside is not None and not beside.used and beside.backed:
                self.take_out(beside)
                block = join(block, beside)
        self.put(block)

    def put(self, block: Block) -> None:
        """Among the free ones."""
        bisect.insort(self._free, (block.size, block.begin, block))

    def take_out(self, block: Block) -> None:
        """From among the free ones."""
        index = bisect.bisect_left(self._free, (block.size, block.begin))
        del self._free[index]

    def split(self, block: Block, size: int) -> Block:
        """Shorten a block; gives what is left of it."""
        rest = Block(self, block.begin + size, block.size - size, backed=block.backed)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after = rest
        block.size = size
        return rest


class _ClassicPool(_Pool):
    """Segments from the driver, each a range of its own."""

    def __init__(self, allocator: CachingAllocator, *, small: bool) -> None:
        super().__init__(allocator, small=small)
        self.least_rest_bytes = BLOCK_BYTES if small else SMALL_BYTES + 1
        self._next_address = 0

    def grow(self, size: int) -> Block | None:
        wanted = self._segment_bytes(size)
        if not self._allocator.ask(wanted):
            return None
        block = Block(self, self._next_address, wanted, backed=True)
        self._next_address += wanted
        return block

    def release(self) -> None:
        for _size, _begin, block in [*self._free]:
            if block.before is None and block.after is None:
                self.take_out(block)
                self._allocator.ask(-block.size)

    def _segment_bytes(self, size: int) -> int:
        if self._small:
            return SMALL_SEGMENT_BYTES
        if size < LEAST_OWN_SEGMENT_BYTES:
            return LARGE_SEGMENT_BYTES
        return -(-size // ROUND_BYTES) * ROUND_BYTES


class _ExpandablePool(_Pool):
    """One range of addresses, larger than any card, backed in pieces of one size."""

    def __init__(self, allocator: CachingAllocator, *, small: bool) -> None:
        super().__init__(allocator, small=small)
        self._piece = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        # Blocks are joined to the lower one, so this always is the first.
        self._first = Block(self, 0, 1 << 50, backed=False)

    def grow(self, size: int) -> Block | None:
        """The first place at which free and unbacked addresses suffice is backed."""
        for first in self._unbacked():
            block = first
            if first.before is not None and not first.before.used:
                block = first.before
            if _room(block) < size:
                continue
            if not block.backed:
                block = self._back(block, min(size, block.size))
            while block is not None and block.size < size:
                after = block.after
                if after is None:
                    raise RuntimeError("there are no addresses left")
                block = self._back(after, min(size - block.size, after.size))
            if block is not None:
                self.take_out(block)
            return block
        raise RuntimeError("there are no addresses left")

    def release(self) -> None:
        """Whole pieces within free blocks go back."""
        for _size, _begin, block in [*self._free]:
            begin = -(-block.begin // self._piece) * self._piece
            end = (block.begin + block.size) // self._piece * self._piece
            if begin >= end:
                continue
            self.take_out(block)
            if block.begin < begin:
                inner = self.split(block, begin - block.begin)
                self.put(block)
                block = inner
            if block.begin + block.size > end:
                self.put(self.split(block, end - block.begin))
            block.backed = False
            self._allocator.ask(-block.size)
            for beside in (block.before, block.after):
                if beside is not None and not beside.backed:
                    block = join(block, beside)

    def _back(self, block: Block, size: int) -> Block | None:
        """Put memory behind the begin of unbacked addresses; gives the free block it is in."""
        end = -(-(block.begin + size) // self._piece) * self._piece
        wanted = end - block.begin
        if not self._allocator.ask(wanted):
            return None
        if wanted < block.size:
            self.split(block, wanted)
        block.backed = True
        before = block.before
        if before is not None and not before.used and before.backed:
            self.take_out(before)
            block = join(block, before)
        after = block.after
        if after is not None and not after.used and after.backed:
            self.take_out(after)
            block = join(block, after)
        self.put(block)
        return block

    def _unbacked(self) -> Iterator[Block]:
        block: Block | None = self._first
        while block is not None:
            if not block.backed:
                yield block
            block = block.after


def join(one: Block, other: Block) -> Block:
    """One block of two that lie beside each other: the lower one, longer."""
    low, high = (one, other) if one.begin < other.begin else (other, one)
    low.size += high.size
    low.after = high.after
    if high.after is not None:
        high.after.before = low
    return low


def _room(block: Block) -> int:
    """Bytes of free and unbacked addresses from a block on."""
    found = 0
    here: Block | None = block
    while here is not None and not here.used:
        found += here.size
        here = here.after
    return found
