"""Streams and events of a pretend GPU: copies beside the computing are made as late as is legal.

What computes does so at once, on the host's side. A copy on another stream is made when something
waits for it, or when its memory is needed; until then its target is poison. So what forgets to wait
reads poison, and what lets a copy begin too early is found by when its memory was computed with.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.fakes.pretend_cuda_memory import Allocation

POISON = 0xFF
"""NaN in all floating-point formats."""
COPY_BYTES_PER_MS = 25e6
OPERATION_MS = 0.01


@dataclass(eq=False)
class _Copy:
    target: torch.Tensor
    source: torch.Tensor
    content: torch.Tensor
    begin: int
    end: int


class Timeline:
    """What the host has told the device, and how far it knows it to be.

    Attributes:
        now: Operations that were told.
        operations: How many there were of each name.
        host_seen: So many of them the host has waited for.
        host_waits: What made the host wait, in order.
        mistakes: Found so far.
        streams: Beside the one that computes.
        clock_ms: Of the device.
        broken: What the driver answers to everything from now on; "" while the device works.
    """

    def __init__(self) -> None:
        self.now = 0
        self.operations = Counter[str]()
        self.host_seen = 0
        self.host_waits: list[str] = []
        self.mistakes: list[str] = []
        self.streams: list[PretendStream] = []
        self.clock_ms = 0.0
        self.broken = ""
        self.compute = PretendStream(self)
        self._current = threading.local()

    @property
    def current(self) -> "PretendStream":
        """Of this thread."""
        found: PretendStream = getattr(self._current, "stream", self.compute)
        return found

    @current.setter
    def current(self, stream: "PretendStream") -> None:
        self._current.stream = stream

    def check(self) -> None:
        """Fail if the device is broken, as each call of the driver does then.

        Raises:
            RuntimeError: As torch says it.
        """
        if self.broken:
            raise RuntimeError(f"CUDA error: {self.broken}")

    def note_operation(self, name: str, used: list[tuple[Allocation, int, int]]) -> None:
        """Something is computed, with these parts of memory."""
        self.check()
        if self.current is not self.compute:
            self.mistakes.append(f"{name} is computed beside what computes")
        self.now += 1
        self.operations[name] += 1
        self.clock_ms += OPERATION_MS
        for allocation, begin, end in used:
            if not allocation.is_copied_to:
                continue
            allocation.uses[begin, end] = self.now
            if any(stream.is_copying(begin, end) for stream in self.streams):
                self.mistakes.append(f"{name} does not wait for its weights")

    def note_host_wait(self, why: str) -> None:
        """The host waits for all that computes."""
        self.check()
        self.host_waits.append(why)
        self.host_seen = self.now

    def synchronize(self, why: str) -> None:
        """The host waits for everything."""
        self.check()
        self.note_host_wait(why)
        for stream in self.streams:
            stream.finish()

    def on_free(self, begin: int, end: int, seen_by: set[Any]) -> None:
        """Memory is nobody's any more."""
        for stream in self.streams:
            if stream.is_copying(begin, end) and stream not in seen_by:
                self.mistakes.append("memory is freed under a copy, and the allocator not told")


class PretendStream:
    """Either the stream that computes, or one that copies when it must."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._queue: deque[Callable[[], None]] = deque()
        self._copies: deque[_Copy] = deque()
        self.told = self.done = 0
        # The stream that computes has computed so much before what is told next is done.
        self._after = 0

    @property
    def is_compute(self) -> bool:
        """Whether it is the stream that computes."""
        return self._timeline.compute is self

    def is_copying(self, begin: int, end: int) -> bool:
        """Whether a copy to some of this memory is not done."""
        return any(one.begin < end and begin < one.end for one in self._copies)

    def copy(self, target: torch.Tensor, source: torch.Tensor, allocation: Allocation) -> None:
        """Copy, later; both are in RAM."""
        self._timeline.check()
        begin = target.data_ptr()
        told = _Copy(target, source, source.clone(), begin, begin + target.nbytes)
        computed = max(self._after, self._timeline.host_seen)
        for (at, until), number in tuple(allocation.uses.items()):
            if at < told.end and told.begin < until and number > computed:
                self._timeline.mistakes.append("weights are copied over those that compute")
        allocation.is_copied_to = True
        target.view(torch.uint8).fill_(POISON)
        self._copies.append(told)
        self.tell(self._make_next_copy)

    def tell(self, work: Callable[[], None]) -> None:
        """Do something after all that was told before."""
        self._queue.append(work)
        self.told += 1

    def finish(self, upto: int | None = None) -> None:
        """Do what was told, or so much of it."""
        while self._queue and self.done < (self.told if upto is None else upto):
            self.done += 1
            self._queue.popleft()()

    def wait_event(self, event: "PretendEvent") -> None:
        """What is told next comes after an event."""
        self._timeline.check()
        stream = event.stream
        if stream is None:
            self._timeline.mistakes.append("a stream waits for an event that was never recorded")
        elif not stream.is_compute:
            stream.finish(event.position)
        elif not self.is_compute:
            self._after = max(self._after, event.position)

    def wait_stream(self, other: "PretendStream") -> None:
        """What is told next comes after all that the other was told."""
        event = PretendEvent(timeline=self._timeline)
        event.record(other)
        self.wait_event(event)

    def synchronize(self) -> None:
        """The host waits for all that was told."""
        self._timeline.check()
        if self.is_compute:
            self._timeline.note_host_wait("Stream.synchronize")
        else:
            self._timeline.host_waits.append("Stream.synchronize")
            self.finish()

    def _make_next_copy(self) -> None:
        one = self._copies.popleft()
        self._timeline.clock_ms += one.target.nbytes / COPY_BYTES_PER_MS
        if not torch.equal(one.source.view(torch.uint8), one.content.view(torch.uint8)):
            self._timeline.mistakes.append("RAM is given away under a copy")
        one.target.copy_(one.content)


class PretendEvent:
    """A point in what a stream was told."""

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        *,
        timeline: Timeline,
    ) -> None:
        del blocking, interprocess
        self.stream: PretendStream | None = None
        self.position = 0
        self._timeline = timeline
        self._timing = enable_timing
        self._passed_ms: float | None = None

    def record(self, stream: PretendStream | None = None) -> None:
        """Be passed once all that a stream was told is done."""
        self._timeline.check()
        stream = self.stream = stream or self._timeline.current
        if stream.is_compute:
            self.position = self._timeline.now
            self._pass()
        else:
            stream.tell(self._pass)
            self.position = stream.told

    def query(self) -> bool:
        """Whether the host may know that it is passed."""
        self._timeline.check()
        if self.stream is None:
            return True
        if self.stream.is_compute:
            return self.position <= self._timeline.host_seen
        return self.stream.done >= self.position

    def synchronize(self) -> None:
        """The host waits."""
        self._timeline.check()
        self._timeline.host_waits.append("Event.synchronize")
        if self.stream is None:
            return
        if self.stream.is_compute:
            self._timeline.host_seen = max(self._timeline.host_seen, self.position)
        else:
            self.stream.finish(self.position)

    def elapsed_time(self, end: "PretendEvent") -> float:
        """Milliseconds of the device."""
        if not (self._timing and end._timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self.stream is None or end.stream is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end.query()) or self._passed_ms is None or end._passed_ms is None:
            raise RuntimeError("CUDA error: device not ready")
        return end._passed_ms - self._passed_ms

    def _pass(self) -> None:
        self._passed_ms = self._timeline.clock_ms
