"""The machine as the planner knows it: nothing of ours is counted against us."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot, HostSnapshot
from app.core.machine_speeds import MachineSpeeds
from app.core.processor import cpu_device_name
from app.core.units import GIB
from app.engine import machine
from app.engine.machine import (
    calibration_key,
    described_device,
    described_host,
    device_kind,
    device_profile,
    host_profile,
    installed_torch,
)
from app.engine.overheads import default_calibration
from tests.fakes import hardware

NVIDIA = "NVIDIA 580.65"


def speeds(flops: float) -> MachineSpeeds:
    return MachineSpeeds(
        device="x",
        device_name="x",
        torch_version="2.13.0",
        precision="float32",
        compute_flops=flops,
        seconds=1.0,
    )


def test_what_the_engine_holds_counts_as_free():
    gpu = hardware.device(used_gib=9, engine_gib=7.5, total_gib=12)
    found = device_profile(gpu, hardware.host(), driver=NVIDIA)
    assert (found.kind, found.name, found.simulated) == ("cuda", "Fake GPU", False)
    assert (found.total_bytes, found.free_bytes) == (12 * GIB, round(10.5 * GIB))
    assert found.calibration == default_calibration("cuda", "Fake GPU")


def test_where_the_driver_does_not_tell_all_use_counts():
    gpu = hardware.device(used_gib=9, engine_gib=None, total_gib=12)
    assert device_profile(gpu, hardware.host()).free_bytes == 3 * GIB


@settings(max_examples=50, deadline=None)
@given(*[st.integers(0, 96 * GIB)] * 6)
def test_free_is_never_more_than_all_nor_less_than_nothing(
    total: int, used: int, engine: int, ram: int, available: int, rss: int
):
    gpu = DeviceSnapshot(index=0, name="x", total_bytes=total, used_bytes=used, engine_bytes=engine)
    host = HostSnapshot(total_bytes=ram, available_bytes=min(available, ram), engine_rss_bytes=rss)
    for found in (device_profile(gpu, host), device_profile(None, host)):
        assert 0 <= found.free_bytes <= found.total_bytes


def test_the_device_of_a_cpu_is_the_ram():
    host = hardware.host(used_gib=10, engine_gib=2, total_gib=32)
    found = device_profile(None, host)
    assert (found.kind, found.name) == ("cpu", cpu_device_name())
    assert (found.total_bytes, found.free_bytes) == (32 * GIB, 24 * GIB)


def test_the_computer_gives_back_what_the_engine_holds_unless_it_is_the_model():
    snapshot = HostSnapshot(
        total_bytes=32 * GIB,
        available_bytes=20 * GIB,
        engine_rss_bytes=5 * GIB,
        swap_used_bytes=GIB,
        swap_total_bytes=4 * GIB,
    )
    found = host_profile(snapshot)
    assert (found.total_bytes, found.available_bytes) == (32 * GIB, 25 * GIB)
    assert found.swap_free_bytes == 3 * GIB
    assert host_profile(snapshot, loaded=True).available_bytes == 20 * GIB


def test_measurements_of_this_gpu_driver_and_torch_are_used(tmp_path: Path):
    store = CalibrationStore(tmp_path / "calibration.json")
    gpu, host = hardware.device(), hardware.host()
    key = calibration_key(gpu.name, driver=NVIDIA, torch_version="2.13.0")
    store.record_speeds(key, speeds(7e13))

    def flops(driver: str, torch_version: str) -> float:
        found = device_profile(gpu, host, store=store, torch_version=torch_version, driver=driver)
        return found.calibration.compute_flops

    assert flops(NVIDIA, "2.13.0") == flops("", "2.13.0") == 7e13
    default = default_calibration("cuda", gpu.name).compute_flops
    assert flops("NVIDIA 600", "2.13.0") == flops(NVIDIA, "2.14.0") == default


def test_measurements_of_a_cpu_are_found_whatever_driver_is_named(tmp_path: Path):
    store = CalibrationStore(tmp_path / "calibration.json")
    key = calibration_key(cpu_device_name(), driver="", torch_version="2.13.0")
    store.record_speeds(key, speeds(3e11))
    found = device_profile(None, hardware.host(), store=store, torch_version="2.13.0")
    assert found.calibration.compute_flops == 3e11


@pytest.mark.parametrize(
    ("driver", "kind"),
    [(NVIDIA, "cuda"), ("amdgpu 6.10", "rocm"), ("xe", "xpu"), ("i915", "xpu"), ("", "cuda")],
)
def test_the_kind_of_a_gpu_is_its_drivers(driver: str, kind: str):
    assert device_kind(driver) == kind


def test_a_described_machine():
    card = described_device(7.5)
    assert (card.name, card.kind, card.simulated) == ("7.5 GB GPU", "cuda", True)
    assert card.total_bytes == card.free_bytes == round(7.5 * GIB)
    assert described_device(12, name="RTX 3060").name == "RTX 3060"
    host = described_host(16)
    assert (host.total_bytes, host.available_bytes) == (16 * GIB, 13 * GIB)
    assert described_host(4).available_bytes == 3 * GIB


def test_the_installed_torch_is_told_as_the_engine_tells_it(monkeypatch: pytest.MonkeyPatch):
    import torch

    assert installed_torch() == str(torch.__version__)

    def missing(name: str) -> str:
        raise machine.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.importlib.metadata, "version", missing)
    assert installed_torch() == ""
