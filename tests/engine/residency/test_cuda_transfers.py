"""Copies to a GPU, with a stand-in for torch's streams that run in any legal order."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.residency import cuda_transfers
from app.engine.residency.cuda_transfers import CudaTransfers
from app.engine.residency.host_block import HostTier
from app.engine.residency.pinning import MIN_RAM_LEFT_BYTES

MOST_STEPS = 1000


class _Event:
    """Passed once its stream comes to where it was recorded; its time is the device's then."""

    def __init__(self, backend: "Backend", *, enable_timing: bool) -> None:
        self.enable_timing = enable_timing
        self.recorded = False
        self.passed_at: int | None = None
        self._backend = backend

    def record(self, stream: "_Stream") -> None:
        self.recorded = True
        stream.add(lambda: setattr(self, "passed_at", self._backend.now))

    def query(self) -> bool:
        return self.passed_at is not None

    def synchronize(self) -> None:
        self._backend.run(until=self.query)

    def elapsed_time(self, other: "_Event") -> float:
        assert self.enable_timing
        assert other.enable_timing
        assert self.passed_at is not None
        assert other.passed_at is not None
        return float(other.passed_at - self.passed_at)


class _Stream:
    """What it was told, in order; each is done by `step` unless it waits for an event."""

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend
        self._told: deque[Callable[[], object] | _Event] = deque()

    def add(self, work: Callable[[], object]) -> None:
        self._told.append(work)

    def wait_event(self, event: _Event) -> None:
        assert event.recorded
        self._told.append(event)

    def wait_stream(self, other: "_Stream") -> None:
        event = _Event(self._backend, enable_timing=False)
        event.record(other)
        self.wait_event(event)

    def can_go_on(self) -> bool:
        if not self._told:
            return False
        first = self._told[0]
        return not isinstance(first, _Event) or first.query()

    def step(self) -> None:
        first = self._told.popleft()
        if not isinstance(first, _Event):
            self._backend.now += 1
            first()


class Backend:
    """torch.xpu or torch.cuda, and the device behind it."""

    def __init__(self) -> None:
        self.now = 0
        self.choose: Callable[[int], int] = lambda _count: 0
        self.compute = _Stream(self)
        self.current = self.compute
        self.streams = [self.compute]

    def Stream(self, device: torch.device) -> "_Stream":
        del device
        self.streams.append(_Stream(self))
        return self.streams[-1]

    def Event(self, *, enable_timing: bool) -> "_Event":
        return _Event(self, enable_timing=enable_timing)

    def current_stream(self, device: torch.device) -> "_Stream":
        del device
        return self.current

    @contextlib.contextmanager
    def stream(self, stream: _Stream) -> Generator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    def run(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let the streams go on, any of them at a time."""
        for _ in range(MOST_STEPS):
            able = [stream for stream in self.streams if stream.can_go_on()]
            if until() or not able:
                return
            able[self.choose(len(able))].step()
        pytest.fail("the device comes to no end")


class Place:
    """Memory on the device: what is told to write there is done in the stream that is current."""

    def __init__(self, backend: Backend) -> None:
        self.content: Any = None
        self._backend = backend

    def numel(self) -> int:
        return 512

    def copy_(self, source: Any, *, non_blocking: bool) -> None:
        assert non_blocking
        self._backend.current.add(lambda: setattr(self, "content", source))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    found = Backend()
    monkeypatch.setattr(torch, "xpu", found)
    return found


def made(backend: Backend) -> Any:
    assert torch.xpu is backend
    return CudaTransfers(torch.device("meta"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_blocks_take_turns_in_one_place_whatever_the_device_does_first(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        backend = Backend()
        patch.setattr(torch, "xpu", backend)
        transfers = made(backend)
        backend.choose = lambda count: data.draw(st.integers(0, count - 1))
        place, seen = Place(backend), []
        after = None
        for block in range(4):
            copied = transfers.copy(place, block, after)
            if data.draw(st.booleans()):
                backend.run(until=lambda: data.draw(st.booleans()))
            transfers.wait(copied)
            backend.compute.add(lambda: seen.append(place.content))
            after = transfers.record()
        backend.run()
        assert seen == [0, 1, 2, 3]


def test_memory_that_was_computed_with_before_is_not_written_to_early(backend: Backend) -> None:
    transfers, order = made(backend), []
    backend.compute.add(lambda: order.append("computed"))
    assert transfers.allocate(512).numel() == 512
    backend.choose = lambda count: count - 1  # Copies first, wherever they may go on.
    place = Place(backend)
    transfers.copy(place, "weights", None)
    backend.streams[1].add(lambda: order.append(place.content))
    backend.run()
    assert order == ["computed", "weights"]


def test_the_host_waits_only_where_it_is_asked_to(backend: Backend) -> None:
    transfers, place = made(backend), Place(backend)
    copied = transfers.copy(place, "weights", None)
    transfers.wait(copied)
    computed = transfers.record()
    assert not transfers.is_done(copied)
    assert not transfers.is_done(computed)
    assert (backend.now, place.content) == (0, None)
    transfers.wait_on_host(copied)
    assert transfers.is_done(copied)
    assert place.content == "weights"
    transfers.wait_on_host(computed)
    assert transfers.is_done(computed)


class Released:
    """Memory that torch's allocator is told of."""

    def __init__(self) -> None:
        self.used_in: list[_Stream] = []

    def record_stream(self, stream: _Stream) -> None:
        self.used_in.append(stream)


def test_memory_that_is_given_back_is_nobody_elses_before_copies_have_ended(
    backend: Backend,
) -> None:
    transfers, buffer = made(backend), Released()
    transfers.copy(Place(backend), "weights", None)
    transfers.release(buffer)
    # The allocator waits for what this stream was told by then; nobody here does.
    assert buffer.used_in == [backend.streams[1]]
    assert backend.now == 0


def test_the_host_waits_for_all_copies_and_for_no_computing(backend: Backend) -> None:
    transfers, places = made(backend), [Place(backend), Place(backend)]
    for number, place in enumerate(places):
        transfers.copy(place, number, None)
    computed = transfers.record()
    backend.choose = lambda count: count - 1  # Copies first, wherever they may go on.
    transfers.settle()
    assert [place.content for place in places] == [0, 1]
    assert not transfers.is_done(computed)


def test_times_are_those_of_what_is_done_and_told_once(backend: Backend) -> None:
    transfers, place = made(backend), Place(backend)
    first = transfers.copy(place, 1, None)
    transfers.wait_on_host(first)
    second = transfers.copy(place, 2, None)
    transfers.wait(second)
    times = transfers.take_times()
    # The copy itself, and the event behind it, take a tick each.
    assert (times.copied_bytes, times.copying_s, times.waited_s) == (512, 0.002, 0.0)
    backend.run()
    times = transfers.take_times()
    assert (times.copied_bytes, times.copying_s) == (512, 0.002)
    # Computing came to the wait at once, and stood still until the copy was there.
    assert times.waited_s > 0
    times = transfers.take_times()
    assert (times.copied_bytes, times.copying_s, times.waited_s) == (0, 0.0, 0.0)


def test_ram_is_pinned_until_it_is_short_or_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_empty, asked = torch.empty, []
    available_bytes = 64 << 30
    monkeypatch.setattr(
        cuda_transfers.psutil, "virtual_memory", lambda: SimpleNamespace(available=available_bytes)
    )

    def empty(*sizes: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        if pin_memory:
            asked.append(sizes[0])
            if sizes[0] > 1024:
                raise RuntimeError("the driver refuses")
        return real_empty(*sizes, **options)

    monkeypatch.setattr(torch, "empty", empty)
    transfers = made(backend)
    tiers = [transfers.host_buffer(size)[1] for size in (512, 2048, 512)]
    # After a refusal none is asked for again.
    assert tiers == [HostTier.PINNED, HostTier.PAGEABLE, HostTier.PAGEABLE]
    assert asked == [512, 2048]
    available_bytes = MIN_RAM_LEFT_BYTES
    assert made(backend).host_buffer(512)[1] is HostTier.PAGEABLE
    assert asked == [512, 2048]


def test_a_host_that_waits_for_cuda_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []

    class Recorded:
        def __init__(self, **options: bool) -> None:
            asked.append(options)

        def record(self, stream: object) -> None:
            del stream

    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: object())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: object())
    monkeypatch.setattr(torch.cuda, "Event", Recorded)
    CudaTransfers(torch.device("cuda:0")).record()
    assert asked == [{"enable_timing": False, "blocking": True}]
