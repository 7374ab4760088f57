"""How long a step takes while weights stream: the streamer's own rules, on clocks.

Of the host, of the readers that fill its bounce buffers, of the link, and of the computing.
"""

from collections import deque
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass

from app.engine.residency.copy_order import AHEAD, Copy, CopyOrder
from app.engine.residency.ring import BOUNCE_BUFFERS

WARM_UP_PASSES = 2
MEASURED_PASSES = 4
"""Passes differ a little where blocks come to lie elsewhere in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One pass through all blocks.

    Attributes:
        seconds: It takes.
        waited_s: Of it, computing waits for weights.
        copying_s: The link is busy for so long.
    """

    seconds: float
    waited_s: float
    copying_s: float


def step_seconds(
    compute_s: Sequence[float],
    block_bytes: Sequence[int],
    streamed: Collection[int],
    slots_bytes: int,
    bytes_per_s: float,
    *,
    cyclic: bool = True,
    read_s: Mapping[int, float] | None = None,
    blocking: Collection[int] = (),
) -> StepTime:
    """What a pass takes: in a long row of them, or by itself.

    Args:
        compute_s: Of each block.
        block_bytes: Of each block.
        streamed: Numbers of the blocks that come in.
        slots_bytes: Of the ring, at least `least_slots_bytes` of the streamed blocks.
        bytes_per_s: Of the link.
        cyclic: Whether passes follow one another; else one alone, from an empty ring.
        read_s: Of the streamed blocks that go through bounce buffers, the seconds in which one is
            filled, from the disk or from ordinary RAM; one is filled at a time.
        blocking: Of the streamed blocks, those whose copy keeps the host until it is done: from
            memory that is not pinned.

    Raises:
        ValueError: The ring is too small.
    """
    order = CopyOrder(block_bytes, sorted(streamed), slots_bytes, cyclic=cyclic)
    clocks = _Clocks(compute_s, order, bytes_per_s, read_s or {}, frozenset(blocking))
    if not cyclic:
        return clocks.passes(1)
    clocks.passes(WARM_UP_PASSES)
    return clocks.passes(MEASURED_PASSES)


class _Clocks:
    """Of the host, the link and the computing; what is here is what `Streamer` does."""

    def __init__(
        self,
        compute_s: Sequence[float],
        order: CopyOrder,
        bytes_per_s: float,
        read_s: Mapping[int, float],
        blocking: frozenset[int],
    ) -> None:
        self._compute_s = compute_s
        self._bytes_per_s = bytes_per_s
        self._order = order
        self._blocking = blocking
        self._bounced = _Bounced(read_s, len(compute_s)) if read_s else None
        self._due: Copy | None = None
        self._copied_at: dict[int, float] = {}
        self._ended_at: list[float] = []
        # What was measured last ended; the device has computed all that it was told.
        self._began_s = self._now_s = self._host_s = self._link_s = 0.0
        self._waited_s = self._copying_s = 0.0
        self._advance()

    def passes(self, count: int) -> StepTime:
        """Go on for so many passes; each one's share of what that takes."""
        for _pass in range(count):
            for seconds in self._compute_s:
                self._turn(seconds)
        began_s, self._began_s = self._began_s, self._now_s
        waited_s, self._waited_s = self._waited_s, 0.0
        copying_s, self._copying_s = self._copying_s, 0.0
        return StepTime(
            seconds=(self._now_s - began_s) / count,
            waited_s=waited_s / count,
            copying_s=copying_s / count,
        )

    def _turn(self, seconds: float) -> None:
        order = self._order
        order.begin()
        turn = order.turn
        if turn >= AHEAD:
            self._host_s = max(self._host_s, self._ended_at[turn - AHEAD])
        self._advance(due_now=True)
        self._stand_still_until(self._copied_at.pop(turn, 0.0))
        self._now_s += seconds
        self._ended_at.append(self._now_s)
        order.end()
        self._advance()

    def _advance(self, *, due_now: bool = False) -> None:
        order = self._order
        host_is_free = True
        while (due := self._due or order.take()) is not None:
            self._due = due
            is_late = due_now and due.turn <= order.turn
            blocks_host = due.block in self._blocking
            if blocks_host and not is_late:
                waits = due.turn > order.ended and due.after == order.ended - 1
                if due_now or waits or not host_is_free:
                    break
            bounced = self._bounced
            if bounced is not None and bounced.has(due.block):
                read_s = bounced.take(due, self._host_s, wait=is_late)
                if read_s is None:
                    break
                self._host_s = read_s
            self._copy(due, blocks_host=blocks_host)
            self._due = None
            host_is_free = not blocks_host
        if self._bounced is not None:
            self._bounced.read_ahead(self._coming(self._bounced), self._host_s)
        if self._host_s > self._now_s:
            # The host has told the device nothing meanwhile.
            self._stand_still_until(self._host_s)

    def _copy(self, due: Copy, *, blocks_host: bool) -> None:
        free_s = self._ended_at[due.after] if due.after >= 0 else 0.0
        took_s = (due.end - due.begin) / self._bytes_per_s
        self._link_s = max(self._link_s, free_s, self._host_s) + took_s
        self._copying_s += took_s
        self._copied_at[due.turn] = self._link_s
        if self._bounced is not None and self._bounced.has(due.block):
            self._bounced.note_copy(due.turn, self._link_s)
        if blocks_host:
            self._host_s = self._link_s

    def _stand_still_until(self, at_s: float) -> None:
        self._waited_s += max(0.0, at_s - self._now_s)
        self._now_s = max(self._now_s, at_s)

    def _coming(self, bounced: "_Bounced") -> Generator[tuple[int, int]]:
        order, blocks = self._order, len(self._compute_s)
        if self._due is not None and bounced.has(self._due.block):
            yield self._due.turn, self._due.block
        for turn in range(order.turn, order.horizon):
            if bounced.has(turn % blocks) and order.comes_in(turn):
                yield turn, turn % blocks


class _Bounced:
    """The readers' clock; what is here is what `BounceTurns` does."""

    def __init__(self, read_s: Mapping[int, float], blocks: int) -> None:
        self._read_s = [read_s.get(block) for block in range(blocks)]
        self._free = BOUNCE_BUFFERS
        self._done_at: dict[int, float] = {}
        self._copied_at: deque[float] = deque()
        self._clock_s = 0.0

    def has(self, block: int) -> bool:
        """Whether a block goes through bounce buffers."""
        return self._read_s[block] is not None

    def take(self, due: Copy, host_s: float, *, wait: bool) -> float | None:
        """The host's clock once the block is read; None when it is not and nobody waits."""
        while due.turn not in self._done_at and not self._start(due.turn, due.block, host_s):
            if not wait:
                return None
            host_s = max(host_s, self._copied_at.popleft())
            self._free += 1
        done_s = self._done_at[due.turn]
        return max(host_s, done_s) if wait or done_s <= host_s else None

    def note_copy(self, turn: int, copied_s: float) -> None:
        """The buffer is free then."""
        del self._done_at[turn]
        self._copied_at.append(copied_s)

    def read_ahead(self, coming: Generator[tuple[int, int]], host_s: float) -> None:
        """Fill as many as are free."""
        while self._copied_at and self._copied_at[0] <= host_s:
            self._copied_at.popleft()
            self._free += 1
        for turn, block in coming:
            if turn not in self._done_at and not self._start(turn, block, host_s):
                return

    def _start(self, turn: int, block: int, host_s: float) -> bool:
        if not self._free:
            return False
        self._free -= 1
        self._clock_s = max(self._clock_s, host_s) + (self._read_s[block] or 0.0)
        self._done_at[turn] = self._clock_s
        return True
