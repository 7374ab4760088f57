"""One described card under one truth: context and allocator, and what they held in each phase."""

from dataclasses import dataclass, field

from app.core.jobs import Phase
from bench.verdicts_parts.allocator import Block, CachingAllocator, RoomError
from bench.verdicts_parts.truth import Truth


@dataclass(slots=True, kw_only=True)
class PhasePeak:
    """The most that was held in one phase.

    Attributes:
        allocated_bytes: Of tensors and weights, in the allocator's blocks.
        used_bytes: Of the card: context and all that the allocator has reserved.
    """

    allocated_bytes: int = 0
    used_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class RanOut:
    """Memory ran out: when, and what for."""

    phase: Phase
    wanted_bytes: int
    used_bytes: int


@dataclass(slots=True, eq=False)
class Card:
    """Keeps the account of one card.

    Attributes:
        truth: About it.
        room_bytes: That a run of ours can have of it.
        fresh: Whether each phase begins with an allocator that keeps nothing, to see what the
            phase needs by itself.
        ran_out: The first time memory did; from then on there is as much as is asked for.
        peaks: By phase.
    """

    truth: Truth
    room_bytes: int
    fresh: bool = False
    ran_out: RanOut | None = None
    peaks: dict[Phase, PhasePeak] = field(default_factory=dict[Phase, PhasePeak])
    _allocator: CachingAllocator = field(init=False)
    _phase: Phase = Phase.LOAD
    _used_bytes: int = 0
    _product: Block | None = None
    _peak: PhasePeak = field(default_factory=PhasePeak)

    def __post_init__(self) -> None:
        self._used_bytes = self.truth.context_bytes
        self._allocator = CachingAllocator(self._ask, expandable=self.truth.growing)
        self.enter(Phase.LOAD)

    def enter(self, phase: Phase) -> None:
        """A phase begins."""
        self._phase = phase
        if self.fresh:
            self._allocator.release_cached()
        self._peak = self.peaks.setdefault(phase, PhasePeak())
        self._note()

    def take(self, size_bytes: int) -> Block:
        """Memory; where there is none it is noted, and given all the same."""
        try:
            block = self._allocator.take(size_bytes)
        except RoomError:
            self.ran_out = RanOut(
                phase=self._phase, wanted_bytes=size_bytes, used_bytes=self._used_bytes
            )
            block = self._allocator.take(size_bytes)
        self._note()
        return block

    def take_tensor(self, size_bytes: int) -> Block:
        """Memory for what is computed."""
        return self.take(int(size_bytes * self.truth.working_factor))

    def give(self, block: Block) -> None:
        """Memory that is free again."""
        self._allocator.give(block)

    def release_left(self) -> None:
        """The engine empties the allocator's cache, where segments cannot grow."""
        if not self.truth.growing:
            self._allocator.release_cached()

    def note_product(self) -> None:
        """A matrix product begins."""
        if self._product is None:
            self._product = self.take(self.truth.product_bytes)

    def note_convolution(self) -> None:
        """A convolution runs, and its result is there."""
        self.give(self.take(self.truth.convolution_bytes))

    def allocated_bytes(self) -> int:
        """Handed out now."""
        return self._allocator.allocated_bytes

    def used_bytes(self) -> int:
        """Of the card now."""
        return self._used_bytes

    def _ask(self, size_bytes: int) -> bool:
        over = self._used_bytes + size_bytes > self.room_bytes
        if over and size_bytes > 0 and self.ran_out is None:
            return False
        self._used_bytes += size_bytes
        return True

    def _note(self) -> None:
        # Millions of times: no more than it takes.
        peak, allocated_bytes = self._peak, self._allocator.allocated_bytes
        if allocated_bytes > peak.allocated_bytes:
            peak.allocated_bytes = allocated_bytes
        if self._used_bytes > peak.used_bytes:
            peak.used_bytes = self._used_bytes
