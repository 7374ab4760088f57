"""One pass through a component's blocks by the timeline of the residency, told quickly."""

import functools
from collections.abc import Sequence

from app.engine.planning.copies import copies_of, places_of, played_seconds
from app.engine.planning.read_copies import read_played_seconds


@functools.lru_cache(maxsize=4096)
def pass_seconds(
    blocks: tuple[int, ...],
    streamed: tuple[int, ...],
    slots_bytes: int,
    computing_s: float,
    bytes_per_s: float,
    cyclic: bool,  # noqa: FBT001 - a key of the cache
) -> float:
    """How long a pass takes, in a long row of them or by itself.

    A double block of FLUX.2 has twice the weights of a single one, half of them for the prompt and
    half for the picture: all blocks compute equally long.

    Args:
        blocks: Bytes of each.
        streamed: Indices of those that come in, rising; not empty.
        slots_bytes: They come in through.
        computing_s: Of the whole pass.
        bytes_per_s: Of the link.
        cyclic: Whether passes follow one another; else one alone, from empty slots.
    """
    if cyclic:
        seconds = _plain_seconds(blocks, streamed, computing_s, bytes_per_s)
        if seconds is not None:
            return seconds
    copies = copies_of(blocks, streamed, slots_bytes, cyclic)
    return played_seconds(copies, computing_s / len(blocks), bytes_per_s, cyclic=cyclic)


@functools.lru_cache(maxsize=1024)
def read_pass_seconds(
    blocks: tuple[int, ...],
    streamed: tuple[int, ...],
    slots_bytes: int,
    computing_s: float,
    bytes_per_s: float,
    cyclic: bool,  # noqa: FBT001 - a key of the cache
    read: tuple[int, ...],
    read_bytes_per_s: float,
) -> float:
    """The same where readers fill bounce buffers with some of the blocks.

    Args:
        blocks: Bytes of each.
        streamed: Indices of those that come in, rising; not empty.
        slots_bytes: They come in through.
        computing_s: Of the whole pass.
        bytes_per_s: Of the link.
        cyclic: Whether passes follow one another; else one alone, from empty slots.
        read: Indices of those that are read from the disk.
        read_bytes_per_s: Of the disk.
    """
    return read_played_seconds(
        places_of(blocks, streamed, slots_bytes, cyclic),
        len(blocks),
        {index: blocks[index] / read_bytes_per_s for index in read},
        computing_s / len(blocks),
        bytes_per_s,
        cyclic=cyclic,
    )


def _plain_seconds(
    blocks: Sequence[int], streamed: Sequence[int], computing_s: float, bytes_per_s: float
) -> float | None:
    """What the timeline says where only one of computing and copying is ever waited for.

    That is so where each block comes in while the streamed one before it computes, with those that
    stay behind that one, or where each takes longer than that: two blocks in the slots are enough
    then. None where it is now the one and now the other.
    """
    count = len(blocks)
    copied_at_once = computed_at_once = True
    before = streamed[-1] - count
    for block in streamed:
        copy_s = blocks[block] / bytes_per_s
        meanwhile_s = (block - before) * computing_s / count
        copied_at_once = copied_at_once and copy_s <= meanwhile_s
        computed_at_once = computed_at_once and meanwhile_s <= copy_s
        before = block
    if copied_at_once:
        return computing_s
    if computed_at_once:
        return sum(blocks[block] for block in streamed) / bytes_per_s
    return None
