"""Locking RAM: spread evenly, ended by the first refusal."""

import contextlib
import itertools
from collections.abc import Generator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.residency import pinning
from app.engine.residency.pinning import (
    MIN_RAM_LEFT_BYTES,
    CopyingRegistrar,
    CudaRegistrar,
    Pinning,
    power_of_two,
    spread_order,
)
from app.engine.residency.stored_block import PAGE_BYTES, paged_buffer
from tests.fakes.registrar import FakeRegistrar


def plenty() -> int:
    return 1 << 40


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 130), part=st.floats(0, 1))
def test_each_beginning_of_the_order_is_spread_evenly(count: int, part: float) -> None:
    order = list(spread_order(count))
    assert sorted(order) == list(range(count))
    chosen = sorted(order[: round(part * count)])
    if chosen:
        # Around the end as well: the first block comes again after the last.
        around = [*chosen, count + chosen[0]]
        gaps = [after - before for before, after in itertools.pairwise(around)]
        # The numbers of bits make gaps differ by a factor of two at most.
        assert max(gaps) <= 2 * count / len(chosen)


def test_first_refusal_ends_it() -> None:
    registrar = FakeRegistrar(limit_bytes=3000)
    pinned = Pinning(registrar, available_bytes=plenty)
    large, small = paged_buffer(2048), paged_buffer(512)
    assert pinned.pin(large) is large
    assert pinned.pin(paged_buffer(1024)) is None
    assert pinned.pin(small) is None, "it would fit, but is not tried"
    assert registrar.asked == 2
    assert pinned.pinned_bytes == 2048

    pinned.unpin(large)
    assert pinned.pinned_bytes == 0
    assert not registrar.locked


def test_what_is_given_back_may_be_locked_again_and_no_more() -> None:
    registrar = FakeRegistrar(limit_bytes=3000)
    pinned = Pinning(registrar, available_bytes=plenty)
    assert pinned.limit_bytes is None
    large = paged_buffer(2048)
    assert pinned.pin(large) is large
    assert pinned.pin(paged_buffer(512), again=True) is None, "this much was never locked"
    assert registrar.asked == 1
    assert pinned.pin(paged_buffer(1024)) is None
    assert pinned.limit_bytes == 2048
    pinned.unpin(large)
    small, other = paged_buffer(1024), paged_buffer(1024)
    assert pinned.pin(small) is small
    assert pinned.pin(other, again=True) is other
    assert pinned.pin(paged_buffer(512)) is None
    assert registrar.refused == 1


def test_a_second_refusal_lowers_what_is_asked_for() -> None:
    registrar = FakeRegistrar(limit_bytes=3000)
    pinned = Pinning(registrar, available_bytes=plenty)
    buffers = [paged_buffer(1024) for _ in range(3)]
    assert [pinned.pin(buffer) is not None for buffer in buffers] == [True, True, False]
    pinned.unpin(buffers[1])
    # Others have locked RAM meanwhile.
    registrar.limit_bytes = 1500
    assert pinned.pin(buffers[1]) is None
    assert pinned.limit_bytes == 1024
    assert pinned.pin(buffers[2]) is None
    assert registrar.refused == 2


@pytest.mark.parametrize(
    ("size_bytes", "taken_bytes"), [(4096, 4096), (3700, 4096), (2560, None), (2049, None)]
)
def test_locked_copies_are_accounted_as_they_are_rounded(
    size_bytes: int, taken_bytes: int | None
) -> None:
    registrar = FakeRegistrar(copies=True)
    available = [MIN_RAM_LEFT_BYTES + 8192]
    pinned = Pinning(registrar, available_bytes=lambda: available[0])
    assert pinned.taken_bytes(size_bytes) == 4096
    locked = pinned.pin(paged_buffer(size_bytes))
    assert (locked is None) == (taken_bytes is None), "too much would be lost"
    assert pinned.pinned_bytes == (taken_bytes or 0)
    bounce = pinned.pin(paged_buffer(size_bytes), any_loss=True)
    assert bounce is not None
    assert pinned.pinned_bytes == (taken_bytes or 0) + 4096
    pinned.unpin(bounce)
    assert pinned.pinned_bytes == (taken_bytes or 0)
    # It is a copy, so it needs RAM of its own.
    available[0] = MIN_RAM_LEFT_BYTES + 4095
    assert pinned.pin(paged_buffer(size_bytes), any_loss=True) is None
    assert pinned.limit_bytes is None, "that was no refusal"


@pytest.mark.parametrize(("size", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_powers_of_two(size: int, power: int) -> None:
    assert power_of_two(size) == power


def test_nothing_is_locked_when_ram_is_short() -> None:
    registrar = FakeRegistrar()
    available = [MIN_RAM_LEFT_BYTES - 1]
    pinned = Pinning(registrar, available_bytes=lambda: available[0])
    buffer = paged_buffer(512)
    assert pinned.pin(buffer) is None
    available[0] = MIN_RAM_LEFT_BYTES
    assert pinned.pin(buffer) is buffer, "RAM is no refusal of the driver: it may come back"
    assert pinned.pin(paged_buffer(0)) is None


def test_available_ram_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        available = 1

    monkeypatch.setattr(pinning.psutil, "virtual_memory", Short)
    assert Pinning(FakeRegistrar()).pin(paged_buffer(512)) is None


@pytest.mark.parametrize("size_bytes", [0, 1, 512, PAGE_BYTES, PAGE_BYTES + 512])
def test_paged_buffers_share_no_page(size_bytes: int) -> None:
    buffers = [paged_buffer(size_bytes) for _ in range(4)]
    ends: list[tuple[int, int]] = []
    for buffer in buffers:
        assert buffer.numel() == size_bytes
        assert buffer.data_ptr() % PAGE_BYTES == 0 or not size_bytes
        ends.append(
            (buffer.data_ptr(), buffer.data_ptr() + -(-size_bytes // PAGE_BYTES) * PAGE_BYTES)
        )
    ends.sort()
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends))


class Runtime:
    """torch.cuda.cudart(), with a status of its own, and the error it keeps for whoever is next."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.kept = 0
        self.calls: list[tuple[Any, ...]] = []
        self.device: torch.device | None = None
        self.used: list[torch.device | None] = []

    @contextlib.contextmanager
    def current(self, device: torch.device) -> Generator[None]:
        """As torch.cuda.device."""
        former, self.device = self.device, device
        try:
            yield
        finally:
            self.device = former

    def cudaHostRegister(self, *arguments: int) -> int:
        self.calls.append(("register", *arguments))
        self.used.append(self.device)
        self.kept = self.status
        return self.status

    def cudaHostUnregister(self, *arguments: int) -> int:
        self.calls.append(("unregister", *arguments))
        self.used.append(self.device)
        self.kept = self.status
        return self.status


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    found = Runtime(0)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: found)
    monkeypatch.setattr(torch.cuda, "device", found.current)
    real_empty = torch.empty

    def empty(*sizes: Any, device: Any = None, **options: Any) -> torch.Tensor:
        # The next work on the GPU is what fails of an error that nobody took.
        if device is not None and torch.device(device).type == "cuda":
            if found.kept:
                found.kept = 0
                raise RuntimeError("CUDA error: out of memory")
            device = "cpu"
        return real_empty(*sizes, device=device, **options)

    monkeypatch.setattr(torch, "empty", empty)
    return found


def test_cuda_locks_in_place(runtime: Runtime) -> None:
    device = torch.device("cuda", 1)
    registrar = CudaRegistrar(device)
    buffer = paged_buffer(5 * 512)
    assert registrar.lock(buffer) is buffer
    registrar.unlock(buffer)
    assert runtime.calls == [
        ("register", buffer.data_ptr(), 5 * 512, 1),
        ("unregister", buffer.data_ptr()),
    ]
    assert runtime.used == [device, device], "no other GPU is woken"


def test_cuda_leaves_no_error_behind_a_refusal(runtime: Runtime) -> None:
    runtime.status = 2
    registrar = CudaRegistrar(torch.device("cuda", 0))
    buffer = paged_buffer(512)
    assert registrar.lock(buffer) is None
    assert runtime.kept == 0
    registrar.unlock(buffer)
    assert runtime.kept == 0


def test_intel_gets_a_copy_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    registrar = CopyingRegistrar()
    buffer = paged_buffer(512).fill_(7)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    locked = registrar.lock(buffer)
    assert locked is not None
    assert locked.data_ptr() != buffer.data_ptr()
    assert torch.equal(locked, buffer)
    registrar.unlock(locked)

    def refuse(_tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    assert registrar.lock(buffer) is None
