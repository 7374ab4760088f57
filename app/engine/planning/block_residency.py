"""Which blocks of a component stay on the device, and through what memory the others come in."""

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

DEPTHS = (2, 3, 4, 6)
"""Streamed blocks that the slots hold: the one that runs and the next at least, or nothing could
come while a block runs. The deeper, the further copying gets ahead where blocks are unequal."""


class BlockResidency(NamedTuple):
    """One way to keep a component's blocks.

    Attributes:
        stays_bytes: Of the blocks that stay on the device.
        slots_bytes: Of the memory on the device that the others pass through.
        streamed_bytes: That come in each time the component runs.
        streamed_blocks: Indices of the blocks that come in.
    """

    stays_bytes: int
    slots_bytes: int
    streamed_bytes: int
    streamed_blocks: tuple[int, ...]

    @property
    def device_bytes(self) -> int:
        """Of the blocks at most on the device at once."""
        return self.stays_bytes + self.slots_bytes


@functools.lru_cache(maxsize=64)
def block_residencies(block_bytes: tuple[int, ...]) -> tuple[BlockResidency, ...]:
    """Ways to keep blocks that need less memory than all of them; those that stream least first.

    Which of them is the fastest that fits, `app.engine.planning.fastest` finds out.

    Args:
        block_bytes: Of each block, in the order they run; empty for a component without blocks.
    """
    whole_bytes = sum(block_bytes)
    found: list[tuple[int, int, int, tuple[int, ...]]] = []
    for streamed in _streamed_patterns(block_bytes):
        sizes = [block_bytes[index] for index in streamed]
        coming = sum(sizes)
        depths = [depth for depth in DEPTHS if depth < len(sizes)]
        found += [
            (coming, whole_bytes - coming + slots, slots, streamed)
            for slots in _slots_for_each(sizes, depths)
        ]
    # Of those that need the same in all, the order is that of what stays, as it was found.
    found.sort(key=operator.itemgetter(0, 1))
    return tuple(
        BlockResidency(whole_bytes - coming, slots, coming, streamed)
        for coming, _, slots, streamed in found
    )


def _slots_for_each(sizes: Sequence[int], depths: Sequence[int]) -> list[int]:
    """Bytes of slots that hold any so many blocks that follow each other, around the end as well.

    Args:
        sizes: Of the blocks that come in, in the order they run.
        depths: How many the slots hold, none of them more than there are.
    """
    if min(sizes) == (size := max(sizes)):
        return [depth * size for depth in depths]
    around = [*sizes, *sizes[: max(depths, default=1) - 1]]
    ends = [0, *itertools.accumulate(around)]
    ways = len(sizes)
    return [max(map(operator.sub, ends[depth : depth + ways], ends)) for depth in depths]


def spread_evenly(count: int, chosen: int) -> set[int]:
    """Indices of so many of `count` things, as evenly spread as they can be."""
    return {(2 * index + 1) * count // (2 * chosen) for index in range(chosen)}


def _streamed_patterns(block_bytes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Blocks that may come in, for each number of those that stay.

    These are spread evenly over all, or the largest of them first: blocks of all sizes compute
    equally long, so large ones are those that are waited for.
    """
    most = max(block_bytes, default=0)
    return _patterns_of(tuple(size == most for size in block_bytes))


@functools.lru_cache(maxsize=16)
def _patterns_of(are_large: tuple[bool, ...]) -> tuple[tuple[int, ...], ...]:
    """The same in all precisions, and in all models of as many blocks."""
    count = len(are_large)
    large = [index for index in range(count) if are_large[index]]
    small = [index for index in range(count) if not are_large[index]]
    found: list[tuple[int, ...]] = []
    for staying in range(count):
        stay = spread_evenly(count, staying)
        found.append(tuple(itertools.filterfalse(stay.__contains__, range(count))))
        if small:
            first = min(staying, len(large))
            largest = {large[place] for place in spread_evenly(len(large), first)}
            largest |= {small[place] for place in spread_evenly(len(small), staying - first)}
            if largest != stay:
                found.append(tuple(itertools.filterfalse(largest.__contains__, range(count))))
    return tuple(found)
