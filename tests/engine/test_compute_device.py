"""Devices as the engine uses them; how weights come to them is residency's."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from app.engine.compute_device import AcceleratorDevice, CpuDevice, real_device
from app.engine.host_memory import System, segments_grow


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


def test_the_cpu_computes_with_weights_where_they_are():
    assert CpuDevice().transfers.in_place


def test_what_is_kept_in_ram_does_not_change_with_the_original():
    device = CpuDevice()
    latents = torch.zeros(4)
    kept = device.to_host(latents)
    latents += 1
    assert torch.equal(device.to_device(kept), torch.zeros(4))


@pytest.mark.parametrize(("platform", "times"), [("linux", 0), ("win32", 1)])
def test_what_weights_have_left_goes_back_where_segments_cannot_grow(
    platform: str, times: int, monkeypatch: pytest.MonkeyPatch
):
    """A GPU that is not there: only the backend's call is looked at."""
    emptied: list[int] = []
    device = object.__new__(AcceleratorDevice)
    device.kind = "cuda"
    device._backend = SimpleNamespace(empty_cache=lambda: emptied.append(1))
    monkeypatch.setattr("app.engine.compute_device.segments_grow", grows_under(platform))
    device.release_left()
    assert len(emptied) == times


def grows_under(platform: str):
    return lambda kind: segments_grow(kind, {}, system=System(platform=platform))
