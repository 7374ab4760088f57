"""A pass for which readers fill bounce buffers with some of the blocks, told quickly.

These are the rules of the streamer's host and of its bounce buffers: which copy is told when,
depends on what is read by then. What is played here is what `app.engine.residency.timeline` plays,
to the last bit.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from app.engine.planning.copies import Placed, turns_of, warm_turns_of
from app.engine.residency.copy_order import AHEAD
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.timeline import MEASURED_PASSES


def read_played_seconds(
    places: Sequence[Placed],
    blocks: int,
    read_s: Mapping[int, float],
    block_s: float,
    bytes_per_s: float,
    *,
    cyclic: bool,
) -> float:
    """How long a pass takes.

    Args:
        places: As `places_of` has them.
        blocks: How many the network has.
        read_s: Of blocks that are read, by their indices.
        block_s: Computing of each block.
        bytes_per_s: Of the link.
        cyclic: As the places were asked for.
    """
    turns = turns_of(blocks, cyclic=cyclic)
    warm = warm_turns_of(turns) if cyclic else 0
    host = _Host(places, _Readers(places, blocks, read_s), turns, bytes_per_s)
    ended_s = host.ended_s
    now_s = warm_s = 0.0
    # It looks what it can tell before each turn, and after it; first of all before any.
    host.tell(0, blocks if cyclic else turns)
    for turn in range(turns):
        horizon = turn + blocks if cyclic else turns
        if turn >= AHEAD:
            host.now_s = max(host.now_s, ended_s[turn - AHEAD])
        host.tell(turn, horizon, begins=True)
        now_s = max(now_s, host.now_s, host.arrived_s[turn]) + block_s
        ended_s.append(now_s)
        host.tell(turn, horizon)
        now_s = max(now_s, host.now_s)
        if turn == warm - 1:
            warm_s = now_s
    return (now_s - warm_s) / MEASURED_PASSES if cyclic else now_s


class _Readers:
    """Fill one buffer after the other, in the order of turns."""

    __slots__ = ("_clock_s", "_done_s", "_free", "_freed_s", "_reads", "_taken", "turns")

    def __init__(self, places: Sequence[Placed], blocks: int, read_s: Mapping[int, float]) -> None:
        self._reads = [
            (place.turn, read_s[place.turn % blocks])
            for place in places
            if place.turn % blocks in read_s
        ]
        self.turns = frozenset(turn for turn, _ in self._reads)
        self._free = BOUNCE_BUFFERS
        self._freed_s: deque[float] = deque()
        self._done_s: list[float] = []
        self._taken = 0
        self._clock_s = 0.0

    def take(self, host_s: float, *, is_late: bool) -> float | None:
        """The host's clock once the next block is read; None when it is not and nobody waits."""
        if len(self._done_s) == self._taken:
            if not self._free:
                if not is_late:
                    return None
                host_s = max(host_s, self._freed_s.popleft())
                self._free = 1
            self._start(host_s)
        done_s = self._done_s[self._taken]
        if done_s > host_s and not is_late:
            return None
        self._taken += 1
        return max(host_s, done_s)

    def note_copy(self, copied_s: float) -> None:
        """The buffer of the block that was taken last is free then."""
        self._freed_s.append(copied_s)

    def read_ahead(self, horizon: int, host_s: float) -> None:
        """Fill as many as are free."""
        freed_s = self._freed_s
        while freed_s and freed_s[0] <= host_s:
            freed_s.popleft()
            self._free += 1
        begun = len(self._done_s)
        while self._free and begun < len(self._reads) and self._reads[begun][0] < horizon:
            self._start(host_s)
            begun += 1

    def _start(self, host_s: float) -> None:
        self._free -= 1
        self._clock_s = max(self._clock_s, host_s) + self._reads[len(self._done_s)][1]
        self._done_s.append(self._clock_s)


class _Host:
    """Tells the device which blocks to copy, in the order of turns.

    Attributes:
        now_s: Its clock.
        ended_s: When each turn has computed.
        arrived_s: When the block of each turn is on the device.
    """

    __slots__ = ("_bytes_per_s", "_link_s", "_places", "_readers", "_told", "arrived_s", "ended_s",
                 "now_s")  # fmt: skip

    def __init__(
        self, places: Sequence[Placed], readers: _Readers, turns: int, bytes_per_s: float
    ) -> None:
        self._places = places
        self._readers = readers
        self._bytes_per_s = bytes_per_s
        self._told = 0
        self._link_s = 0.0
        self.now_s = 0.0
        self.ended_s: list[float] = []
        self.arrived_s = [0.0] * turns

    def tell(self, turn: int, horizon: int, *, begins: bool = False) -> None:
        """All copies that may begin now.

        Args:
            turn: That computes next, or was told to compute last.
            horizon: Nothing is told for this turn or later ones.
            begins: Whether what this turn needs is waited for.
        """
        ended_s, readers = self.ended_s, self._readers
        while self._told < len(self._places):
            due, after, size_bytes = self._places[self._told]
            if due >= horizon or after >= len(ended_s):
                break
            is_read = due in readers.turns
            if is_read:
                read_s = readers.take(self.now_s, is_late=begins and due <= turn)
                if read_s is None:
                    break
                self.now_s = read_s
            free_s = ended_s[after] if after >= 0 else 0.0
            self._link_s = max(self._link_s, free_s, self.now_s) + size_bytes / self._bytes_per_s
            self.arrived_s[due] = self._link_s
            if is_read:
                readers.note_copy(self._link_s)
            self._told += 1
        readers.read_ahead(horizon, self.now_s)
