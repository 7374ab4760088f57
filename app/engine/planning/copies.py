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


class Coming(NamedTuple):
    """A block that comes in for a turn.

    Attributes:
        after: Its copy begins when this turn has computed at the earliest; below 0 for at once.
        size_bytes: Of the block.
    """

    after: int
    size_bytes: int


@functools.lru_cache(maxsize=512)
def copies_of(
    blocks: tuple[int, ...],
    streamed: tuple[int, ...],
    slots_bytes: int,
    cyclic: bool,  # noqa: FBT001 - a key of the cache
) -> tuple[Coming | None, ...]:
    """For each turn what comes in for it, or None: of many passes, or of one by itself.

    Args:
        blocks: Bytes of each.
        streamed: Indices of those that come in, rising; not empty.
        slots_bytes: Of the ring; too few for all of them.
        cyclic: Whether passes follow one another.
    """
    count = len(blocks)
    place = Ring([blocks[index] for index in streamed], slots_bytes).place
    taken: list[tuple[int, int, int]] = []
    told = 0
    found: list[Coming | None] = []
    for first in range(0, _passes(cyclic=cyclic) * count, count):
        found += [None] * count
        for block in streamed:
            turn = first + block
            begin, end = place()
            after = -1
            left: list[tuple[int, int, int]] = []
            for one in taken:
                if one[1] >= end or one[2] <= begin:
                    left.append(one)
                elif one[0] > after:
                    after = one[0]
            left.append((turn, begin, end))
            taken = left
            # The host tells in this turn, as it looks no further than the same block's next turn.
            told = max(told, after, turn - count + 1)
            # It waits for a turn some way back before it goes on to the next.
            found[turn] = Coming(max(after, told - AHEAD), end - begin)
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
    warm = len(copies) * WARM_UP_PASSES // _passes(cyclic=True)
    return (now_s - ended_s[warm - 1]) / MEASURED_PASSES


def _passes(*, cyclic: bool) -> int:
    return WARM_UP_PASSES + MEASURED_PASSES if cyclic else 1
