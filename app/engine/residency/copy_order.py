"""In which order streamed blocks are copied, to where, and what must be computed before.

Turns are numbered on and on: with 25 blocks, turn 27 is the third block of the second pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

from app.engine.residency.ring import Ring

AHEAD = 2
"""The most blocks that the device has been told to compute and has not finished."""


class Copy(NamedTuple):
    """One block that is to come in.

    Attributes:
        turn: In which it computes.
        block: Its number in the network.
        begin: Its place in the ring, in bytes.
        end: Its place in the ring, in bytes.
        after: The turn whose block must have computed before it is overwritten, or -1.
    """

    turn: int
    block: int
    begin: int
    end: int
    after: int


class CopyOrder:
    """Hands out copies as far ahead as the ring has room, in the order of turns.

    Attributes:
        turn: That computes, or is the next to compute.
        ended: All turns below have been told to compute.
        holds_all: Whether each streamed block has a place of its own, and comes only once.
        passes: That are to come, the one of `turn` among them; None is without end.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        streamed: Sequence[int],
        slots_bytes: int,
        *,
        cyclic: bool = True,
    ) -> None:
        """Begin at the first block.

        Args:
            sizes: Of all blocks of the network, in bytes.
            streamed: Numbers of those that come in, rising.
            slots_bytes: Of the ring.
            cyclic: Whether the first block comes again after the last without a pause; else each
                pass begins for itself, unless more are expected.

        Raises:
            ValueError: The ring is too small.
        """
        self.turn = 0
        self.ended = 0
        self.passes: int | None = None
        self._blocks = len(sizes)
        self._streamed = tuple(streamed)
        self._streamed_set = frozenset(streamed)
        self._cyclic = cyclic
        self._ring = Ring([sizes[block] for block in streamed], slots_bytes)
        self.holds_all = self._ring.holds_all
        # Places by turn, in the order they were handed out.
        self._taken: list[tuple[int, int, int]] = []
        self._place: tuple[int, int] | None = None
        self._handed_out = 0
        self._next_turn = self._streamed[0] if self._streamed else 0

    def places(self) -> list[tuple[int, int]]:
        """Each streamed block's number with each begin it can have, as long as all goes well."""
        return [(self._streamed[index], begin) for index, begin in self._ring.places()]

    def restart(self, block: int) -> None:
        """Forget what is in the ring, and begin at any block."""
        self.passes = self.passes_left
        self.turn = self.ended = block
        self._taken.clear()
        self._place = None
        self._handed_out = 0
        if not self._streamed:
            return
        index = next((i for i, one in enumerate(self._streamed) if one >= block), None)
        self._ring.restart(index or 0)
        self._next_turn = self._streamed[index or 0] + (self._blocks if index is None else 0)

    def expect(self, passes: int | None) -> None:
        """Have nothing come in for a pass that does not come.

        Args:
            passes: So many are still to end; None is without end.
        """
        self.passes = None if passes is None else passes + self._passes_ended

    @property
    def passes_left(self) -> int | None:
        """That are still to end; None is without end."""
        return None if self.passes is None else self.passes - self._passes_ended

    @property
    def _passes_ended(self) -> int:
        """One between the last turn of a pass and the first of the next."""
        return self.ended // self._blocks - self.turn // self._blocks

    def begin(self) -> None:
        """The next turn is about to compute; its pass comes, whatever was expected."""
        if self.passes is not None:
            self.passes = max(1, self.passes - self._passes_ended)
        self.turn = self.ended

    def end(self) -> None:
        """The turn has been told to compute."""
        self.ended += 1

    @property
    def next_turn(self) -> int:
        """Of the next copy, whether it may begin or not; all turns before need none."""
        return self.horizon if self._rests() else min(self._next_turn, self.horizon)

    def comes_in(self, turn: int) -> bool:
        """Whether a block is still to be copied for a turn below the horizon."""
        return (
            not self._rests()
            and turn >= self._next_turn
            and turn % self._blocks in self._streamed_set
            and (not self.holds_all or turn < self._next_turn + self._blocks)
        )

    @property
    def horizon(self) -> int:
        """No copy is made yet for this turn or later ones."""
        begun = self.turn // self._blocks
        if self.passes is None:
            return self.turn + self._blocks if self._cyclic else (begun + 1) * self._blocks
        return min(self.turn, (begun + self.passes - 1) * self._blocks) + self._blocks

    def take(self) -> Copy | None:
        """The next copy that may begin now, or None."""
        turn = self._next_turn
        if self._rests() or turn >= self.horizon:
            return None
        if self._place is None:
            self._place = self._ring.place()
        begin, end = self._place
        after = -1
        for other, other_begin, other_end in self._taken:
            if other_begin < end and begin < other_end:
                after = max(after, other)
        if after >= self.ended:
            return None
        self._taken = [other for other in self._taken if not (other[1] < end and begin < other[2])]
        self._taken.append((turn, begin, end))
        self._place = None
        self._handed_out += 1
        block = turn % self._blocks
        following = self._streamed[self._ring.index]
        self._next_turn = turn + ((following - block) % self._blocks or self._blocks)
        return Copy(turn, block, begin, end, after)

    def _rests(self) -> bool:
        """Whether nothing comes in any more: all that is streamed is there."""
        return self.holds_all and self._handed_out >= len(self._streamed)
