"""A device whose copies finish late, in any legal order, with slots poisoned until then."""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from app.engine.residency.host_network import HostBuffer, ram_buffer
from app.engine.residency.transfers import Times

POISON = 0xFF
"""NaN in all floating-point formats."""


@dataclass(eq=False)
class FakeMark:
    """A point in the one queue or the other."""

    copied: bool
    number: int


@dataclass(eq=False)
class _CopyTold:
    target: torch.Tensor
    source: torch.Tensor
    after: FakeMark | None
    content: torch.Tensor
    mark: FakeMark = field(default_factory=lambda: FakeMark(copied=True, number=0))


class LateTransfers:
    """Two queues, as on a GPU: computing, whose progress is a number, and copies.

    Computing happens at once on the host's side, so a copy that is allowed to be late is done at
    the last moment that is legal, or earlier when `hurry` says so. Until then its target is poison.

    Attributes:
        allocations: That were made.
        copies: That were told.
        recorded: Marks of computing that were set.
        host_seen: So many of them the host has waited for.
        held: Buffers that were allocated and not released.
        host_kept: Copies that kept the host until they were done.
        tells_late: Whether a copy that computing waits for is known to be done only when the host
            has waited for that computing; else as soon as it is told.
    """

    in_place = False

    def __init__(
        self,
        hurry: Callable[[], bool] = lambda: False,
        *,
        refuse: Callable[[int], bool] = lambda _size: False,
        is_pinned: Callable[[torch.Tensor], bool] | None = None,
        fail: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self.needs_pinned = is_pinned is not None
        self.host_kept = 0
        self.tells_late = True
        self._is_pinned = is_pinned
        self._fail = fail
        self.allocations = 0
        self.copies = 0
        self.recorded = 0
        self.held: list[torch.Tensor] = []
        self._left: list[weakref.ref[torch.UntypedStorage]] = []
        self.host_seen = 0
        self._hurry = hurry
        self._refuse = refuse
        self._queue: list[_CopyTold] = []
        self._targets: dict[int, tuple[int, int]] = {}
        self._used: list[tuple[int, int]] = []
        self._last_use: dict[tuple[int, int], int] = {}
        # Copies are made in order, so each comes after all that an earlier one came after.
        self._queue_after = 0
        # Copies that the host knows to be done: computing that waits for one tells it nothing,
        # before it has waited for that.
        self._known = 0
        self._awaited = 0
        self._awaited_by: dict[int, int] = {}
        self._done_bytes = 0

    @property
    def pending(self) -> int:
        """Copies that are not done."""
        return len(self._queue)

    @property
    def pending_bytes(self) -> int:
        """Of copies that are not done."""
        return sum(told.target.numel() for told in self._queue)

    def watch(self, blocks: Iterable[torch.nn.Module]) -> None:
        """See with what weights blocks compute, also those for which they need not wait."""
        for block in blocks:
            first = next(one for one in block.modules() if not any(one.children()))
            # Inside, so that whoever brings weights before the block has brought them.
            first.register_forward_pre_hook(lambda *_inputs, block=block: self._computes(block))

    def _computes(self, block: torch.nn.Module) -> None:
        for tensor in (*block.parameters(), *block.buffers()):
            begin, end = _range(tensor)
            if any(at <= begin and end <= until for at, until in map(_range, self.held)):
                self._used.append((begin, end))

    def reads(self, buffer: torch.Tensor) -> bool:
        """Whether a copy from any of it is not done."""
        begin, end = _range(buffer)
        sources = (_range(told.source) for told in self._queue)
        return any(at < end and begin < until for at, until in sources)

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        return ram_buffer(size_bytes)

    def keep_off(self, weights: torch.Tensor) -> None:
        pass

    def allocate(self, size_bytes: int) -> torch.Tensor:
        # Or both would be on the device at once: memory is free with its last view.
        assert not any(left() is not None for left in self._left), "what left is still there"
        self._left.clear()
        if self._refuse(size_bytes):
            raise torch.OutOfMemoryError(f"no room for {size_bytes} bytes")
        self.allocations += 1
        # What had this memory before has computed when the first copy comes.
        self._queue_after = self.recorded
        buffer = ram_buffer(size_bytes)[0]
        buffer.fill_(POISON)
        self.held.append(buffer)
        return buffer

    def release(self, buffer: torch.Tensor) -> None:
        index = next(index for index, one in enumerate(self.held) if one is buffer)
        del self.held[index]
        self._left.append(weakref.ref(buffer.untyped_storage()))
        begin, end = _range(buffer)
        # Whoever has this memory next comes after all that was told: see `allocate`.
        self._used = [(at, until) for at, until in self._used if until <= begin or end <= at]
        buffer.fill_(POISON)

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: FakeMark | None) -> FakeMark:
        self._fail("copy")
        begin, end = _range(target)
        assert any(at <= begin and end <= until for at, until in map(_range, self.held))
        for told in self._queue:
            at, until = _range(told.target)
            assert not (at < end and begin < until), "two copies to one place"
        if after is not None:
            assert not after.copied
            self._queue_after = max(self._queue_after, after.number)
        for at, until in self._used:
            assert until <= begin or end <= at, "overwritten before it was told to compute"
        computed = max(self._queue_after, self.host_seen)
        for (at, until), number in tuple(self._last_use.items()):
            if at < end and begin < until:
                assert number <= computed, "overwritten while it computes"
                del self._last_use[at, until]
        self.copies += 1
        told = _CopyTold(target, source, after, source.clone())
        told.mark.number = self.copies
        target.fill_(POISON)
        self._targets[self.copies] = (begin, end)
        self._queue.append(told)
        if self._is_pinned is not None and source.nbytes and not self._is_pinned(source):
            self.host_kept += 1
            self.host_seen = max(self.host_seen, self._queue_after)
            self.wait_on_host(told.mark)
        self._maybe()
        return told.mark

    def record(self) -> FakeMark:
        self.recorded += 1
        self._last_use.update((place, self.recorded) for place in self._used)
        self._used.clear()
        self._awaited_by[self.recorded] = self._awaited
        self._maybe()
        return FakeMark(copied=False, number=self.recorded)

    def wait(self, copied: FakeMark) -> None:
        self._used.append(self._targets.pop(copied.number))
        self._awaited = max(self._awaited, copied.number)
        self._finish(copied)

    def is_done(self, mark: FakeMark) -> bool:
        self._maybe()
        if mark.copied:
            done = all(told.mark.number > mark.number for told in self._queue)
            return done and (mark.number <= self._known or not self.tells_late)
        return mark.number <= self.host_seen

    def wait_on_host(self, mark: FakeMark) -> None:
        if mark.copied:
            self._finish(mark)
            self._known = max(self._known, mark.number)
        else:
            self.host_seen = max(self.host_seen, mark.number)
            self._known = max(self._known, self._awaited_by[mark.number])

    def settle(self) -> None:
        self._known = self.copies
        while self._queue:
            self._do(self._queue.pop(0))

    def take_times(self) -> Times:
        copied_bytes, self._done_bytes = self._done_bytes, 0
        return Times(copied_bytes=copied_bytes, copying_s=0.0, waited_s=0.0)

    def _maybe(self) -> None:
        while self._queue and self._hurry():
            self._known = max(self._known, self._queue[0].mark.number)
            self._do(self._queue.pop(0))

    def _finish(self, mark: FakeMark) -> None:
        while self._queue and self._queue[0].mark.number <= mark.number:
            self._do(self._queue.pop(0))

    def _do(self, told: _CopyTold) -> None:
        assert torch.equal(told.source, told.content), "RAM was given away under a copy"
        told.target.copy_(told.source)
        self._done_bytes += told.target.numel()


def _range(buffer: torch.Tensor) -> tuple[int, int]:
    return buffer.data_ptr(), buffer.data_ptr() + buffer.nbytes
