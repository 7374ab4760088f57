"""Which blocks of a component stay on the device, and which come in as they are needed."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

DEPTH = 3
"""Streamed blocks that the slots hold where there is room for them: the one that runs, the next,
which is there already, and the one after it, which is coming."""
LEAST_DEPTH = 2
"""Below this nothing can come while a block runs."""


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
    """Ways to keep blocks, from the one that streams least to the one that streams all.

    The blocks that stay are spread evenly, so that copying and computing can overlap all along.
    Only ways that are worth having: each needs less memory than the one before, and streams more
    or, at last, through fewer slots.

    Args:
        block_bytes: Of each block, in the order they run; empty for a component without blocks.
    """
    count = len(block_bytes)
    ways = sorted(
        (_residency(block_bytes, staying, DEPTH) for staying in range(count)),
        key=lambda way: (way.streamed_bytes, way.device_bytes),
    )
    if count:
        ways.append(_residency(block_bytes, 0, LEAST_DEPTH))
    worth: list[BlockResidency] = []
    least_bytes = sum(block_bytes)
    for way in ways:
        if way.device_bytes < least_bytes:
            worth.append(way)
            least_bytes = way.device_bytes
    return tuple(worth)


def slots_for(streamed_bytes: Sequence[int], depth: int) -> int:
    """Bytes of slots that hold any so many blocks that follow each other, around the end as well.

    Args:
        streamed_bytes: Of the blocks that come in, in the order they run.
        depth: How many the slots hold.
    """
    count = len(streamed_bytes)
    held = min(depth, count)
    return max(
        (
            sum(streamed_bytes[(first + step) % count] for step in range(held))
            for first in range(count)
        ),
        default=0,
    )


def spread_evenly(count: int, chosen: int) -> set[int]:
    """Indices of so many of `count` things, as evenly spread as they can be."""
    return {(2 * index + 1) * count // (2 * chosen) for index in range(chosen)}


def _residency(block_bytes: tuple[int, ...], staying: int, depth: int) -> BlockResidency:
    stay = spread_evenly(len(block_bytes), staying)
    streamed = tuple(index for index in range(len(block_bytes)) if index not in stay)
    sizes = [block_bytes[index] for index in streamed]
    coming = sum(sizes)
    return BlockResidency(sum(block_bytes) - coming, slots_for(sizes, depth), coming, streamed)
