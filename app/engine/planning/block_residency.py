"""Which blocks of a component stay on the device, and which come in as they are needed."""

import functools
from dataclasses import dataclass

SLOTS = 2
"""Streamed blocks that are on the device at once: the one that runs, and the one before it that
is not gone yet or the one after it that is coming."""


@dataclass(frozen=True, slots=True)
class BlockResidency:
    """One way to keep a component's blocks.

    Attributes:
        device_bytes: Of the blocks at most on the device at once: those that stay, and the slots.
        streamed_bytes: That come in each time the component runs.
        streamed_blocks: Indices of the blocks that come in.
    """

    device_bytes: int
    streamed_bytes: int
    streamed_blocks: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def block_residencies(block_bytes: tuple[int, ...]) -> tuple[BlockResidency, ...]:
    """Ways to keep blocks, from the one that streams least to the one that streams all.

    The blocks that stay are spread evenly, so that copying and computing can overlap all along.
    Only ways that are worth having: each streams more than the one before, and needs less memory.

    Args:
        block_bytes: Of each block, in the order they run; empty for a component without blocks.
    """
    count = len(block_bytes)
    ways = sorted(
        (_residency(block_bytes, staying) for staying in range(count)),
        key=lambda way: (way.streamed_bytes, way.device_bytes),
    )
    worth: list[BlockResidency] = []
    least_bytes = sum(block_bytes)
    for way in ways:
        if way.device_bytes < least_bytes:
            worth.append(way)
            least_bytes = way.device_bytes
    return tuple(worth)


def _residency(block_bytes: tuple[int, ...], staying: int) -> BlockResidency:
    count = len(block_bytes)
    stay = {(2 * index + 1) * count // (2 * staying) for index in range(staying)}
    streamed = tuple(index for index in range(count) if index not in stay)
    sizes = sorted((block_bytes[index] for index in streamed), reverse=True)
    return BlockResidency(sum(block_bytes) - sum(sizes) + sum(sizes[:SLOTS]), sum(sizes), streamed)
