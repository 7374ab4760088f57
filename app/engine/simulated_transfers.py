"""Copies to a simulated device: real ones, in RAM, as late as may be, by a clock of their own."""

import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from app.engine.live_storages import block_bytes
from app.engine.residency.host_network import HostBuffer, ram_buffer
from app.engine.residency.leaves import take_apart
from app.engine.residency.transfers import Times
from app.engine.story_timeline import Timeline

POISON = 0xFF
"""What a place holds until its weights are there: NaN in all floating-point formats."""
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class SimulatedMemory(Protocol):
    """What transfers ask of the device they belong to."""

    def take_buffer(self, size_bytes: int) -> None:
        """See whether there is room.

        Raises:
            torch.OutOfMemoryError: There is not.
        """
        ...

    def keep_off(self, weights: torch.Tensor) -> None:
        """Refuse to compute with these."""
        ...

    def on_host(self) -> contextlib.AbstractContextManager[None, bool | None]:
        """Around what is no computing of the device."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedMark:
    """A point on the virtual clock; of a copy that was not made yet, what it is from and to."""

    at_s: float
    began_s: float = 0.0
    target: torch.Tensor | None = None
    source: torch.Tensor | None = None
    begin: int = 0
    size_bytes: int = 0


class SimulatedTransfers:
    """One link beside the computing.

    The host is at most as far ahead as it says by `wait_on_host`; it takes no time of its own.

    Attributes:
        host_s: What the host has come to on the clock.
    """

    in_place = False

    def __init__(
        self,
        memory: SimulatedMemory,
        timeline: Timeline,
        copy_bytes_per_s: float,
        *,
        is_pinned: Callable[[torch.Tensor], bool] | None = None,
    ) -> None:
        """Begin with nothing on the device.

        Args:
            memory: Of the device.
            timeline: Whose clock computing moves.
            copy_bytes_per_s: Of the link; 0 takes no time.
            is_pinned: Whether RAM is copied from while the host goes on, as GPUs have it; None is
                for all.
        """
        self.needs_pinned = is_pinned is not None
        self.host_s = 0.0
        self._is_pinned = is_pinned
        self._memory = memory
        self._timeline = timeline
        self._copy_bytes_per_s = copy_bytes_per_s
        self._held: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self._queue: deque[SimulatedMark] = deque()
        self._told: list[SimulatedMark] = []
        self._link_s = self._waited_s = 0.0

    @property
    def held_bytes(self) -> int:
        """Of buffers on the device."""
        return sum(size_bytes for _reference, size_bytes in self._held.values())

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Ordinary RAM."""
        return ram_buffer(size_bytes)

    def keep_off(self, weights: torch.Tensor) -> None:
        """Computing with them fails."""
        self._memory.keep_off(weights)

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """RAM that counts as the device's."""
        self._memory.take_buffer(block_bytes(size_bytes))
        with self._memory.on_host():
            buffer = ram_buffer(size_bytes)[0].fill_(POISON)
        storage = buffer.untyped_storage()
        key = id(storage)

        def ended(reference: weakref.ref[torch.UntypedStorage]) -> None:
            if (entry := self._held.get(key)) is not None and entry[0] is reference:
                del self._held[key]

        self._held[key] = weakref.ref(storage, ended), block_bytes(size_bytes)
        return buffer

    def release(self, buffer: torch.Tensor) -> None:
        """Its last view ends its count; whoever computes with one till then will see."""
        storage = buffer.untyped_storage()
        for mark in self._queue:
            if mark.target is not None and mark.target.untyped_storage() is storage:
                # The link is busy with it as before, and nobody will see it.
                mark.target = mark.source = None
        with self._memory.on_host():
            buffer.fill_(POISON)

    def copy(
        self, target: torch.Tensor, source: torch.Tensor, after: SimulatedMark | None
    ) -> SimulatedMark:
        """Poison the target until somebody has waited."""
        began_s = max(self._link_s, self.host_s, 0.0 if after is None else after.at_s)
        speed = self._copy_bytes_per_s
        self._link_s = began_s + (target.numel() / speed if speed > 0 else 0.0)
        mark = SimulatedMark(
            at_s=self._link_s,
            began_s=began_s,
            target=target,
            source=source,
            begin=_place(target)[1],
            size_bytes=target.numel(),
        )
        with self._memory.on_host():
            target.fill_(POISON)
        self._queue.append(mark)
        self._told.append(mark)
        if self._is_pinned is not None and not self._is_pinned(source):
            self.hold_host_until(mark.at_s)
        return mark

    def record(self) -> SimulatedMark:
        """Computing is done at once, at the time its clock shows."""
        return SimulatedMark(at_s=self._timeline.seconds)

    def wait(self, copied: SimulatedMark) -> None:
        """Let the clock of computing stand still until then."""
        self._waited_s += max(0.0, copied.at_s - self._timeline.seconds)
        self._pass(copied)

    def is_done(self, mark: SimulatedMark) -> bool:
        """Whether the host has come as far on the clock; then a copy has been made, too."""
        done = mark.at_s <= self.host_s
        if done and mark.target is not None:
            # Who is told so may use the source for something else.
            self._pass(mark)
        return done

    def wait_on_host(self, mark: SimulatedMark) -> None:
        """The host is no earlier than this; after a copy, nor is what it tells to compute."""
        self.hold_host_until(mark.at_s)
        if mark.target is not None:
            self._pass(mark)

    def settle(self) -> None:
        """The host is no earlier than the last copy."""
        self.hold_host_until(self._link_s)
        if self._queue:
            self._pass(self._queue[-1])

    def hold_host_until(self, at_s: float) -> None:
        """The host does nothing before, and the device nothing that it was not told by now."""
        self.host_s = max(self.host_s, at_s)
        self._waited_s += max(0.0, self.host_s - self._timeline.seconds)
        self._timeline.seconds = max(self._timeline.seconds, self.host_s)

    def synchronize(self) -> None:
        """The host has waited for all that was computed."""
        self.host_s = max(self.host_s, self._timeline.seconds)

    def take_times(self) -> Times:
        """Of the copies that are done by the clock."""
        done = [mark for mark in self._told if mark.at_s <= self._timeline.seconds]
        self._told = [mark for mark in self._told if mark.at_s > self._timeline.seconds]
        waited_s, self._waited_s = self._waited_s, 0.0
        return Times(
            copied_bytes=sum(mark.size_bytes for mark in done),
            copying_s=sum(mark.at_s - mark.began_s for mark in done),
            waited_s=waited_s,
        )

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """Whether any part of a tensor lies where a copy has not ended."""
        if not self._queue:
            return False
        if type(tensor) in _PLAIN:
            places = [_place(tensor)]
        else:
            with self._memory.on_host():
                places = [_place(part) for part in take_apart(tensor)[0].values()]
        return any(
            mark.target is not None
            and mark.target.untyped_storage() is storage
            and mark.begin <= begin < mark.begin + mark.size_bytes
            for mark in self._queue
            for storage, begin in places
        )

    def _pass(self, copied: SimulatedMark) -> None:
        self._timeline.seconds = max(self._timeline.seconds, copied.at_s)
        while copied in self._queue:
            mark = self._queue.popleft()
            if mark.target is not None and mark.source is not None:
                with self._memory.on_host():
                    mark.target.copy_(mark.source)
            # Whoever keeps the mark does not keep the memory.
            mark.target = mark.source = None


def _place(tensor: torch.Tensor) -> tuple[torch.UntypedStorage, int]:
    """A storage and a byte in it: unlike an address, tensors without data have that, too."""
    return tensor.untyped_storage(), int(tensor.storage_offset()) * tensor.element_size()
