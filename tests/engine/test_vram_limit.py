"""Memory of a GPU runs out where the driver would move it to RAM; on a stand-in for torch.cuda."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from app.engine import bench_run, calibrate, vram_limit
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.host_memory import System
from app.engine.overheads import default_calibration
from app.engine.protocol import Calibrate
from app.engine.run.profiles import room_bytes
from app.engine.vram_limit import keep_in_vram

GPU = torch.device("cuda:0")
WINDOWS = System(platform="win32", release="11")
WSL = System(platform="linux", release="6.6.87.2-microsoft-standard-WSL2")
LINUX = System(platform="linux", release="6.8.0-45-generic")


class Limits:
    """What torch's allocator was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, free_bytes: int) -> None:
        self.told: list[tuple[float, torch.device]] = []
        self.free_bytes = free_bytes
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", self._tell)
        monkeypatch.setattr(vram_limit, "memory_info", lambda _device: (self.free_bytes, 1000))

    def _tell(self, fraction: float, device: torch.device) -> None:
        # As torch checks it.
        assert isinstance(fraction, float)
        assert 0 <= fraction <= 1
        self.told.append((fraction, device))


def gpu(**changed: Any) -> ComputeDevice:
    parts = {
        "kind": "cuda",
        "simulated": False,
        "torch_device": GPU,
        "name": "a GPU",
        "total_bytes": 1000,
        "allocated_bytes": lambda: 50,
        "reserved_bytes": lambda: 100,
        "free_bytes": lambda: 650,
    }
    return cast("ComputeDevice", SimpleNamespace(**{**parts, **changed}))


@pytest.mark.parametrize("system", [WINDOWS, WSL])
def test_no_more_is_taken_than_there_is(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, free_bytes=600)
    keep_in_vram(gpu(), system=system)
    # Others have given memory back, or taken more.
    limits.free_bytes = 950
    keep_in_vram(gpu(), system=system)
    limits.free_bytes = 0
    keep_in_vram(gpu(), system=system)
    assert limits.told == [(0.7, GPU), (1.0, GPU), (0.1, GPU)]


def test_a_driver_that_says_it_itself_needs_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, free_bytes=600)
    keep_in_vram(gpu(), system=LINUX)
    keep_in_vram(gpu(simulated=True), system=WINDOWS)
    keep_in_vram(CpuDevice(), system=WINDOWS)
    assert not limits.told


def test_an_older_torch_has_no_limit_for_intel(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, free_bytes=600)
    monkeypatch.delattr(torch.xpu, "set_per_process_memory_fraction", raising=False)
    keep_in_vram(gpu(kind="xpu", torch_device=torch.device("xpu:0")), system=WINDOWS)
    assert not limits.told


def test_what_a_run_is_planned_with_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, free_bytes=600)
    monkeypatch.setattr(vram_limit, "this_system", lambda: WINDOWS)
    room_bytes(gpu(), default_calibration("cuda", "a GPU", growing=False))
    assert limits.told == [(0.7, GPU)]


def test_speeds_are_measured_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for module, measuring in ((calibrate, "measure_machine"), (bench_run, "measure")):
        monkeypatch.setattr(module, "keep_in_vram", lambda device: done.append(device.name))
        monkeypatch.setattr(module, measuring, lambda *_values: done.append("measured"))
    device = CpuDevice()
    calibrate.calibrate(device, Calibrate(model_folders=(), scratch_folder="x"))
    bench_run.bench(device)
    assert done == [device.name, "measured"] * 2
