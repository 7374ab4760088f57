"""Weights are lent to a device and taken back without copies, shared ones once."""

import gc
import weakref

import psutil
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from app.core.jobs import Phase
from app.engine.compute_device import CpuDevice, real_device
from app.engine.module_weights import ModuleWeights


class Tied(torch.nn.Module):
    """Two layers that share a matrix, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.scale: torch.Tensor
        self.register_buffer("scale", torch.ones(3))


def matrix_of(weights: ModuleWeights) -> torch.Tensor:
    return next(tensor for tensor in weights.host if tensor.ndim == 2)


def number_of_matrix(weights: ModuleWeights) -> int:
    return [tensor.ndim for tensor in weights.host].index(2)


def test_shared_weights_are_counted_and_lent_once():
    network = Tied()
    weights = ModuleWeights([network])
    assert weights.host_bytes == 4 * (9 + 3 + 3 + 3)

    weights.lend([tensor.detach() * 2 for tensor in weights.host])

    assert weights.on_device
    assert network.first.weight is network.second.weight
    assert isinstance(network.first.weight, torch.nn.Parameter)
    assert torch.equal(network.first.weight, 2 * matrix_of(weights))
    assert torch.equal(network.scale, torch.full((3,), 2.0))


def test_weights_taken_back_are_the_tensors_in_ram_and_the_copies_are_gone():
    network = Tied()
    before = [*network.parameters(), *network.buffers()]
    weights = ModuleWeights([network])
    copies = [tensor.detach().clone() for tensor in weights.host]
    watched = [weakref.ref(copy.untyped_storage()) for copy in copies]

    weights.lend(copies)
    copies.clear()
    weights.take_back()

    after = [*network.parameters(), *network.buffers()]
    assert all(one is other for one, other in zip(before, after, strict=True))
    gc.collect()
    assert all(reference() is None for reference in watched)


def test_modules_can_be_left_out():
    network = Tied()
    weights = ModuleWeights([network], without=[network.second])
    assert weights.host_bytes == 4 * (9 + 3 + 3)


@pytest.mark.parametrize("lent", [False, True])
def test_a_replaced_tensor_is_used_from_then_on_or_when_taken_back(lent: bool):
    network = Tied()
    weights = ModuleWeights([network])
    if lent:
        weights.lend([tensor.detach().clone() for tensor in weights.host])
    other = matrix_of(weights).detach().clone()

    weights.replace_host(number_of_matrix(weights), other)
    if lent:
        assert network.first.weight.data_ptr() != other.data_ptr()
        weights.take_back()

    assert network.first.weight.data_ptr() == other.data_ptr()
    assert network.first.weight is network.second.weight


def test_weights_move_between_devices():
    """On fake tensors, which refuse to compute with tensors of two devices."""
    with FakeTensorMode():
        network = Tied()
        inputs = torch.ones(2, 3, device="cuda:0")
        weights = ModuleWeights([network])
        weights.lend([tensor.detach().to("cuda:0") for tensor in weights.host])
        assert network.second(network.first(inputs)).device.type == "cuda"
        weights.take_back()
        with pytest.raises(RuntimeError, match="two devices"):
            network.first(inputs)


def test_cpu_device_is_the_computer():
    device = real_device(torch.device("cpu"))
    assert isinstance(device, CpuDevice)
    assert (device.kind, device.simulated) == ("cpu", False)
    assert device.total_bytes == psutil.virtual_memory().total
    assert 0 < device.free_bytes() <= device.total_bytes
    device.reset_peak()
    block = torch.ones(8 << 20)
    held = device.allocated_bytes()
    assert held > block.nbytes
    del block
    assert device.peak_bytes() >= held


def test_cpu_device_computes_with_weights_where_they_are():
    device = CpuDevice()
    network = Tied()
    weights = ModuleWeights([network])
    with device.watch(Phase.DENOISE):
        device.onload(weights)
        assert weights.on_device
        assert network.first.weight is matrix_of(weights)
        device.offload(weights)
    assert not weights.on_device


def test_what_is_kept_in_ram_does_not_change_with_the_original():
    device = CpuDevice()
    latents = torch.zeros(4)
    kept = device.to_host(latents)
    latents += 1
    assert torch.equal(device.to_device(kept), torch.zeros(4))
