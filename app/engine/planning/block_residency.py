"""Which blocks of a component stay on the device, and through what memory the others come in."""

import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DEPTHS = (2, 3, 4, 6)
"""Streamed blocks that the slots hold: the one that runs and the next at least, or nothing could
come while a block runs. The deeper, the further copying gets ahead where blocks are unequal."""


@dataclass(frozen=True, slots=True)
class BlockResidency:
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
    found: dict[BlockResidency, None] = {}
    for staying in range(len(block_bytes)):
        for stay in _patterns(block_bytes, staying):
            streamed = tuple(index for index in range(len(block_bytes)) if index not in stay)
            sizes = [block_bytes[index] for index in streamed]
            coming = sum(sizes)
            for depth in DEPTHS:
                slots = slots_for(sizes, depth)
                if slots < coming:
                    found[BlockResidency(whole_bytes - coming, slots, coming, streamed)] = None
    return tuple(sorted(found, key=lambda way: (way.streamed_bytes, way.device_bytes)))


def slots_for(streamed_bytes: Sequence[int], depth: int) -> int:
    """Bytes of slots that hold any so many blocks that follow each other, around the end as well.

    Args:
        streamed_bytes: Of the blocks that come in, in the order they run.
        depth: How many the slots hold.
    """
    held = min(depth, len(streamed_bytes))
    if not held:
        return 0
    ends = list(itertools.accumulate([*streamed_bytes, *streamed_bytes[: held - 1]], initial=0))
    return max(map(operator.sub, ends[held:], ends))


def spread_evenly(count: int, chosen: int) -> set[int]:
    """Indices of so many of `count` things, as evenly spread as they can be."""
    return {(2 * index + 1) * count // (2 * chosen) for index in range(chosen)}


def _patterns(block_bytes: Sequence[int], staying: int) -> Iterator[set[int]]:
    """Blocks that may stay: spread evenly over all, or the largest of them first.

    Blocks of all sizes compute equally long, so large ones are those that are waited for.
    """
    yield spread_evenly(len(block_bytes), staying)
    most = max(block_bytes)
    large = [index for index, size in enumerate(block_bytes) if size == most]
    small = [index for index, size in enumerate(block_bytes) if size != most]
    if small:
        first = min(staying, len(large))
        stay = {large[place] for place in spread_evenly(len(large), first)}
        yield stay | {small[place] for place in spread_evenly(len(small), staying - first)}
