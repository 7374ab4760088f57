"""The pretend GPU itself: what it refuses, what it counts, and which mistakes it finds."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from app.engine.compute_device import AcceleratorDevice
from app.engine.residency.pinning import CudaRegistrar
from app.engine.residency.stored_block import paged_buffer
from tests.fakes.pretend_cuda import PretendGpu, SyncError, pretend_gpu
from tests.fakes.pretend_cuda_guard import can_pretend, device_guards

pytestmark = pytest.mark.skipif(not can_pretend(), reason="this torch is built for a GPU")
GPU = torch.device("cuda", 0)
MIB = 1 << 20


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with pretend_gpu(64 * MIB) as found:
        yield found


def test_results_are_the_cpus_and_stay_on_the_device(gpu: PretendGpu):
    del gpu
    left, right = torch.randn(4, 6), torch.randn(6, 3)
    product = left.to(GPU) @ right.to(GPU)
    assert product.device == GPU
    assert torch.equal(product.cpu(), left @ right)


@pytest.mark.parametrize(
    "wrong", ["add", "linear", "cat", "in place", "one number", "numpy", "attention"]
)
def test_what_is_in_ram_is_not_mixed_with_what_is_on_the_device(gpu: PretendGpu, wrong: str):
    del gpu
    here, there = torch.ones(2, 2, 4, 4), torch.ones(2, 2, 4, 4, device=GPU)
    functions = torch.nn.functional
    attempts = {
        "add": lambda: there + here,
        "linear": lambda: functions.linear(there, here[0, 0]),
        "cat": lambda: torch.cat([there, here]),
        "in place": lambda: here.add_(there),
        "one number": lambda: here[0, 0, 0, 0].add_(there[0, 0, 0, 0]),
        "numpy": there.numpy,
        "attention": lambda: functions.scaled_dot_product_attention(there, here, here),
    }
    with pytest.raises((RuntimeError, TypeError), match="device"):
        attempts[wrong]()


def test_views_share_memory_and_single_numbers_may_be_in_ram(gpu: PretendGpu):
    arena = torch.zeros(64, dtype=torch.uint8, device=GPU)
    held = gpu.memory.allocated_bytes
    arena[:8].view(torch.float32).fill_(1.5).mul_(torch.tensor(2.0))
    assert arena[:8].view(torch.float32).tolist() == [3.0, 3.0]
    assert (held, gpu.memory.allocated_bytes) == (512, 512)


def test_memory_has_an_end_and_comes_back(gpu: PretendGpu):
    device = AcceleratorDevice(GPU)
    large = torch.empty(48 * MIB, dtype=torch.uint8, device=GPU)
    with pytest.raises(torch.OutOfMemoryError, match=r"memory\. Tried to allocate 32\.00"):
        torch.empty(32 * MIB, dtype=torch.uint8, device=GPU)
    assert device.free_bytes() == 16 * MIB
    del large
    assert (device.allocated_bytes(), device.reserved_bytes()) == (0, 48 * MIB)
    assert device.free_bytes() == 64 * MIB
    device.release_cached()
    assert (device.reserved_bytes(), device.peak_bytes()) == (0, 48 * MIB)
    gpu.memory.others_bytes = 60 * MIB
    assert device.free_bytes() == 4 * MIB


@pytest.mark.parametrize("in_time", [True, False])
def test_a_copy_is_late_and_who_does_not_wait_is_found(gpu: PretendGpu, in_time: bool):
    transfers = AcceleratorDevice(GPU).transfers
    source, _tier = transfers.host_buffer(512)
    source.fill_(7)
    target = transfers.allocate(512)
    copied = transfers.copy(target, source, None)
    assert not transfers.is_done(copied)
    if in_time:
        transfers.wait(copied)
    found = (target + 1).cpu()
    assert bool((found == 8).all()) == in_time
    assert gpu.timeline.mistakes == ([] if in_time else ["add does not wait for its weights"])
    transfers.settle()


@pytest.mark.parametrize("in_time", [True, False])
def test_a_copy_over_what_computes_is_found(gpu: PretendGpu, in_time: bool):
    transfers = AcceleratorDevice(GPU).transfers
    source, _tier = transfers.host_buffer(512)
    target = transfers.allocate(512)
    transfers.wait(transfers.copy(target, source.fill_(7), None))
    _ = target + 1
    after = transfers.record() if in_time else None
    transfers.copy(target, source, after)
    wanted = [] if in_time else ["weights are copied over those that compute"]
    assert gpu.timeline.mistakes == wanted
    transfers.settle()


@pytest.mark.parametrize("told", [True, False])
def test_memory_that_is_freed_under_a_copy_is_found(gpu: PretendGpu, told: bool):
    transfers = AcceleratorDevice(GPU).transfers
    source, _tier = transfers.host_buffer(512)
    target = transfers.allocate(512)
    transfers.copy(target, source, None)
    if told:
        transfers.release(target)
    del target
    wanted = [] if told else ["memory is freed under a copy, and the allocator not told"]
    assert gpu.timeline.mistakes == wanted
    transfers.settle()


def test_ram_that_is_given_away_under_a_copy_is_found(gpu: PretendGpu):
    transfers = AcceleratorDevice(GPU).transfers
    source, _tier = transfers.host_buffer(512)
    target = transfers.allocate(512)
    copied = transfers.copy(target, source.fill_(1), None)
    source.fill_(2)
    transfers.wait_on_host(copied)
    assert gpu.timeline.mistakes == ["RAM is given away under a copy"]


def test_what_makes_the_host_wait_can_be_forbidden(gpu: PretendGpu):
    here, there = torch.ones(4), torch.ones(4, device=GPU)
    backend = torch.cuda
    backend.set_sync_debug_mode("error")
    _ = there * 2
    there.copy_(here, non_blocking=True)
    for waits in (there.cpu, lambda: there.copy_(here), lambda: bool(there[0]), there.nonzero):
        with pytest.raises(SyncError):
            waits()
    assert gpu.timeline.host_waits == ["a copy from RAM that is not locked"]


def test_a_refusal_to_lock_is_told_to_what_comes_next_unless_it_is_cleared(gpu: PretendGpu):
    registrar, buffer = CudaRegistrar(GPU), paged_buffer(4096)
    assert registrar.lock(buffer) is buffer
    assert buffer.is_pinned()
    assert registrar.lock(buffer) is None
    assert torch.ones(4, device=GPU).sum().item() == 4
    assert gpu.register(buffer.data_ptr(), 4096, 1) != 0
    with pytest.raises(RuntimeError, match="CUDA error"):
        torch.ones(4, device=GPU)
    registrar.unlock(buffer)
    assert not buffer.is_pinned()


def test_products_in_eight_bits_have_the_rules_of_the_gpu(gpu: PretendGpu):
    del gpu
    few, many = torch.ones(16, 32, dtype=torch.int8), torch.ones(32, 32, dtype=torch.int8)
    with pytest.raises(RuntimeError, match="greater than 16"):
        torch.ops.aten._int_mm(few.to(GPU), many.to(GPU))
    narrow = torch.ones(32, 24).to(torch.float8_e4m3fn)
    one = torch.ones((), device=GPU)
    with pytest.raises(RuntimeError, match="divisible by 16"):
        torch.ops.aten._scaled_mm(narrow.to(GPU), narrow.to(GPU).t(), scale_a=one, scale_b=one)


def test_torch_is_as_it_was_afterwards_whatever_went_wrong() -> None:
    def patched() -> list[object]:
        functions = torch.nn.functional
        return [
            *device_guards(),
            *(getattr(torch.cuda, name) for name in PretendGpu().namespace()),
            *(torch.tensor, functions.scaled_dot_product_attention, torch.accelerator),
            *(torch.Tensor.is_pinned, torch.Tensor.pin_memory, threading.Thread.run),
        ]

    before = patched()

    def go_wrong() -> None:
        with pretend_gpu():
            assert torch.ones(2, device=GPU).device == GPU
            assert device_guards() != before[: len(device_guards())]
            raise SyncError

    with pytest.raises(SyncError):
        go_wrong()
    assert patched() == before
    assert not torch.cuda.is_available()
    assert type(torch.ones(2)) is torch.Tensor


def test_functions_that_make_tensors_are_torchs_own_afterwards() -> None:
    utilities: Any = torch.utils
    utilities._device._device_constructors.cache_clear()
    with pretend_gpu(), torch.device("meta"):
        torch.empty(1)
    with torch.device("meta"):
        assert torch.tensor([1.0]).device.type == "meta"
