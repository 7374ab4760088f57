"""What a pass waits for, told in turns: it depends on sizes and slots, and on no speed.

These are the rules of `app.engine.residency.copy_order` and of the streamer's host, for copies
from pinned memory, which wait for no reader and keep nobody waiting. So they are followed once for
a way to stream, and each pass at some speed is played from them, which gives what
`app.engine.residency.timeline` gives, to the last bit.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from app.engine.residency.copy_order import AHEAD
from app.engine.residency.ring import Ring
from app.engine.residency.timeline import MEASURED_PASSES, WARM_UP_PASSES


class Placed(NamedTuple):
    """A copy of a block, in the order of copies.

    Attributes:
        turn: It comes in for.
        after: The turn that must have computed before it is overwritten, or -1.
        size_bytes: Of the block.
    """

    turn: int
    after: int
    size_bytes: int


class Coming(NamedTuple):
    """A block that comes in for a turn.

    Attributes:
        after: Its copy begins when this turn has computed at the earliest; below 0 for at once.
        size_bytes: Of the block.
    """

    after: int
    size_bytes: int


@functools.lru_cache(maxsize=512)
def places_of(
    blocks: tuple[int, ...],
    streamed: tuple[int, ...],
    slots_bytes: int,
    cyclic: bool,  # noqa: FBT001 - a key of the cache
) -> tuple[Placed, ...]:
    """All copies of many passes, or of one by itself.

    Args:
        blocks: Bytes of each.
        streamed: Indices of those that come in, rising; not empty.
        slots_bytes: Of the ring; too few for all of them.
        cyclic: Whether passes follow one another.
    """
    count = len(blocks)
    place = Ring([blocks[index] for index in streamed], slots_bytes).place
    taken: list[tuple[int, int, int]] = []
    found: list[Placed] = []
    for first in range(0, turns_of(count, cyclic=cyclic), count):
        for block in streamed:
            begin, end = place()
            after = -1
            left: list[tuple[int, int, int]] = []
            for one in taken:
                if one[1] >= end or one[2] <= begin:
                    left.append(one)
                elif one[0] > after:
                    after = one[0]
            left.append((first + block, begin, end))
            taken = left
            found.append(Placed(first + block, after, end - begin))
    return tuple(found)


@functools.lru_cache(maxsize=512)
def copies_of(
    blocks: tuple[int, ...],
    streamed: tuple[int, ...],
    slots_bytes: int,
    cyclic: bool,  # noqa: FBT001 - a key of the cache
) -> tuple[Coming | None, ...]:
    """For each turn what comes in for it, or None; see `places_of`."""
    count = len(blocks)
    found: list[Coming | None] = [None] * turns_of(count, cyclic=cyclic)
    told = 0
    for turn, after, size_bytes in places_of(blocks, streamed, slots_bytes, cyclic):
        # The host tells in this turn, as it looks no further than the same block's next turn.
        told = max(told, after, turn - count + 1)
        # It waits for a turn some way back before it goes on to the next.
        found[turn] = Coming(max(after, told - AHEAD), size_bytes)
    return tuple(found)


def played_seconds(
    copies: Sequence[Coming | None],
    block_s: float,
    bytes_per_s: float,
    *,
    cyclic: bool,
) -> float:
    """How long a pass takes.

    Args:
        copies: As `copies_of` has them.
        block_s: Computing of each block.
        bytes_per_s: Of the link.
        cyclic: As the copies were asked for.
    """
    now_s = link_s = 0.0
    ended_s: list[float] = []
    for coming in copies:
        if coming is not None:
            after, size_bytes = coming
            if after >= 0 and ended_s[after] > link_s:
                link_s = ended_s[after]
            link_s += size_bytes / bytes_per_s
            if link_s > now_s:
                now_s = link_s
        now_s += block_s
        ended_s.append(now_s)
    if not cyclic:
        return now_s
    return (now_s - ended_s[warm_turns_of(len(copies)) - 1]) / MEASURED_PASSES


def turns_of(blocks: int, *, cyclic: bool) -> int:
    """Turns that are played."""
    return blocks * (WARM_UP_PASSES + MEASURED_PASSES if cyclic else 1)


def warm_turns_of(turns: int) -> int:
    """Of the turns of passes that follow one another, those before what is measured."""
    return turns * WARM_UP_PASSES // (WARM_UP_PASSES + MEASURED_PASSES)
