"""A fixed piece of memory on the device that streamed blocks pass through, used as a ring in bytes.

Blocks of several sizes follow one another in it. A block and the one that follows it never share a
byte, so that one can come in while the other computes.
"""

from collections.abc import Sequence

BOUNCE_BUFFERS = 3
"""In RAM, for blocks that come from the disk: one is copied to the device, one is read next, one is
being filled."""


def least_slots_bytes(sizes: Sequence[int]) -> int:
    """The smallest ring for blocks that come in turns, the first again after the last.

    Args:
        sizes: Of the streamed blocks, in the order they run.
    """
    if len(sizes) < 3:
        return sum(sizes)
    return max(size + sizes[index - 1] for index, size in enumerate(sizes))


class Ring:
    """Says where each block of an endless row of turns lies.

    Attributes:
        index: Of the block whose turn it is.
    """

    def __init__(self, sizes: Sequence[int], capacity_bytes: int) -> None:
        """Begin with the first block.

        Args:
            sizes: Of the blocks, in the order they run.
            capacity_bytes: At least `least_slots_bytes`.

        Raises:
            ValueError: The ring is too small.
        """
        if capacity_bytes < least_slots_bytes(sizes):
            raise ValueError(
                f"slots of {capacity_bytes} bytes are too small for blocks that need "
                f"{least_slots_bytes(sizes)}"
            )
        self.index = 0
        self._sizes = tuple(sizes)
        self._capacity_bytes = capacity_bytes
        self._end_bytes = 0

    @property
    def holds_all(self) -> bool:
        """Whether each block has a place of its own, and need not come again."""
        return sum(self._sizes) <= self._capacity_bytes

    def restart(self, index: int) -> None:
        """Begin anew with any block; what was in the ring is forgotten."""
        self.index = index
        self._end_bytes = 0

    def place(self) -> tuple[int, int]:
        """Begin and end, in bytes, of the block whose turn it is; then it is the next one's."""
        sizes, capacity = self._sizes, self._capacity_bytes
        size = sizes[self.index]
        self.index = following = (self.index + 1) % len(sizes)
        begin = self._end_bytes
        if begin + size > capacity:
            begin = 0
        if begin + size + sizes[following] > capacity and begin < sizes[following]:
            # The next one goes to the front: leave it the room it needs there.
            begin = capacity - size
        self._end_bytes = begin + size
        return begin, self._end_bytes

    def places(self) -> list[tuple[int, int]]:
        """Each block's index with each begin it ever has, from the first block on."""
        if not self._sizes:
            return []
        ring = Ring(self._sizes, self._capacity_bytes)
        found: dict[tuple[int, int], None] = {}
        fronts: set[int] = set()
        while True:
            index = ring.index
            begin, _end = ring.place()
            # From the front on, all that follows is settled.
            if begin == 0 and index in fronts:
                return list(found)
            if begin == 0:
                fronts.add(index)
            found[index, begin] = None
            if ring.holds_all and len(found) == len(self._sizes):
                return list(found)
