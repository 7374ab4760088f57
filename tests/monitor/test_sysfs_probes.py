"""AMD and Intel GPUs from what Linux tells in /sys, on trees made for the test."""

import sys
from pathlib import Path

import pytest

from app.monitor.amd import AmdProbe, open_amd_probes
from app.monitor.details import INTERVAL_S
from app.monitor.intel import open_intel_probes
from app.monitor.sysfs import read_int, read_text
from tests.fakes.clock import FakeClock

GIB = 1024**3


def write(root: Path, files: dict[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", "utf-8")
    return root


@pytest.fixture
def amd_tree(tmp_path: Path) -> Path:
    """A machine with an Intel card without figures and an AMD card, with ROCm's kernel driver."""
    return write(
        tmp_path,
        {
            "drm/card0/device/vendor": "0x8086",
            "drm/card1/device/vendor": "0x1002",
            "drm/card1-DP-1/device/vendor": "0x1002",
            "drm/card1/device/mem_info_vram_total": 16 * GIB,
            "drm/card1/device/mem_info_vram_used": 3 * GIB,
            "drm/card1/device/product_name": "Radeon RX 7800 XT",
            "drm/card1/device/gpu_busy_percent": 42,
            "drm/card1/device/hwmon/hwmon3/temp1_input": 55000,
            "drm/card1/device/hwmon/hwmon3/power1_average": 120_500_000,
            "drm/card1/device/drm/renderD129/dev": "226:129",
            "kfd/topology/nodes/0/gpu_id": 0,
            "kfd/topology/nodes/0/properties": "cpu_cores_count 16\ndrm_render_minor 0",
            "kfd/topology/nodes/1/gpu_id": 51234,
            "kfd/topology/nodes/1/properties": "simd_count 120\ndrm_render_minor 129",
            "kfd/proc/4711/vram_51234": 2 * GIB,
        },
    )


def test_an_amd_card_tells_memory_name_and_sensors(amd_tree: Path):
    (probe,) = open_amd_probes(amd_tree / "drm", amd_tree / "kfd")
    snapshot = probe.snapshot(None)
    assert snapshot is not None
    assert (snapshot.index, snapshot.name) == (1, "Radeon RX 7800 XT")
    assert (snapshot.total_bytes, snapshot.used_bytes) == (16 * GIB, 3 * GIB)
    assert snapshot.engine_bytes is None
    assert snapshot.utilization_percent == 42.0
    assert snapshot.temperature_c == 55.0
    assert snapshot.power_w == 120.5
    assert probe.driver == "amdgpu"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_card_tells_where_it_sits(tmp_path: Path):
    place = tmp_path / "pci0000:00/0000:03:00.0"
    write(
        place,
        {"vendor": "0x1002", "mem_info_vram_total": 4 * GIB, "mem_info_vram_used": 5},
    )
    card = tmp_path / "drm/card0"
    card.mkdir(parents=True)
    (card / "device").symlink_to(place)
    (probe,) = open_amd_probes(tmp_path / "drm", tmp_path / "kfd")
    snapshot = probe.snapshot(None)
    assert snapshot is not None
    assert snapshot.pci_address == "0000:03:00.0"


def test_what_an_amd_card_s_controller_is_asked_for_is_asked_once_a_second(amd_tree: Path):
    clock = FakeClock()
    probe = AmdProbe(amd_tree / "drm/card1", kfd_root=amd_tree / "kfd", clock=clock)

    def told() -> tuple[float | None, int]:
        snapshot = probe.snapshot(None)
        assert snapshot is not None
        return snapshot.utilization_percent, snapshot.used_bytes

    assert told() == (42.0, 3 * GIB)
    write(amd_tree / "drm/card1/device", {"gpu_busy_percent": 99, "mem_info_vram_used": GIB})
    clock.advance(INTERVAL_S / 2)
    assert told() == (42.0, GIB)
    clock.advance(INTERVAL_S / 2)
    assert told() == (99.0, GIB)


def test_memory_of_a_rocm_process_comes_from_its_kernel_driver(amd_tree: Path):
    (probe,) = open_amd_probes(amd_tree / "drm", amd_tree / "kfd")
    ours, other = probe.snapshot(4711), probe.snapshot(4712)
    assert ours is not None
    assert ours.engine_bytes == 2 * GIB
    assert other is not None
    assert other.engine_bytes is None


def test_an_amd_card_with_memory_only_has_none_for_the_rest(tmp_path: Path):
    write(
        tmp_path,
        {
            "drm/card0/device/vendor": "0x1002",
            "drm/card0/device/mem_info_vram_total": 4 * GIB,
            "drm/card0/device/mem_info_vram_used": 5,
        },
    )
    (probe,) = open_amd_probes(tmp_path / "drm", tmp_path / "no-kfd")
    snapshot = probe.snapshot(1)
    assert snapshot is not None
    assert snapshot.name == "AMD GPU 0"
    assert snapshot.engine_bytes is None
    assert snapshot.power_w is None
    assert snapshot.temperature_c is None


def test_a_card_that_stops_telling_gives_nothing(amd_tree: Path):
    (probe,) = open_amd_probes(amd_tree / "drm", amd_tree / "kfd")
    (amd_tree / "drm/card1/device/mem_info_vram_used").unlink()
    assert probe.snapshot(None) is None


def test_the_graphics_part_of_a_processor_is_not_offered(amd_tree: Path):
    (amd_tree / "drm/card1/device/mem_info_vram_total").write_text(f"{GIB // 2}", "utf-8")
    assert open_amd_probes(amd_tree / "drm", amd_tree / "kfd") == ()


def test_an_amd_card_without_memory_figures_is_not_offered(tmp_path: Path):
    write(tmp_path, {"drm/card0/device/vendor": "0x1002"})
    assert open_amd_probes(tmp_path / "drm", tmp_path) == ()


def test_an_intel_card_tells_what_is_in_use(tmp_path: Path):
    write(
        tmp_path,
        {
            "card0/device/vendor": "0x8086",
            "card0/lmem_total_bytes": 12 * GIB,
            "card0/lmem_avail_bytes": 9 * GIB,
            "card0/device/hwmon/hwmon1/temp1_input": 48000,
        },
    )
    (probe,) = open_intel_probes(tmp_path)
    snapshot = probe.snapshot(4711)
    assert snapshot is not None
    assert (snapshot.total_bytes, snapshot.used_bytes) == (12 * GIB, 3 * GIB)
    assert snapshot.engine_bytes is None
    assert snapshot.temperature_c == 48.0


def test_intel_graphics_that_share_ram_are_not_offered(tmp_path: Path):
    write(tmp_path, {"card0/device/vendor": "0x8086"})
    assert open_intel_probes(tmp_path) == ()


def test_where_there_is_no_sysfs_there_are_no_probes(tmp_path: Path):
    assert open_amd_probes(tmp_path / "none", tmp_path / "none") == ()
    assert open_intel_probes(tmp_path / "none") == ()


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("0x1002\n", 0x1002), ("twelve", None)])
def test_numbers_are_read_as_linux_writes_them(tmp_path: Path, text: str, value: int | None):
    (tmp_path / "file").write_text(text, "utf-8")
    assert read_int(tmp_path / "file") == value


def test_a_file_that_cannot_be_read_or_is_empty_is_none(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert read_text(tmp_path / "empty") is None
    assert read_text(tmp_path / "missing") is None
    assert read_int(tmp_path / "missing") is None
