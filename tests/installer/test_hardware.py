import sys

import pytest

from installer import hardware
from installer.torch_build import NvidiaGpu


def test_nvidia_smi_lines_become_gpus():
    text = "NVIDIA GeForce RTX 4090, 580.65.06, 8.9\nNVIDIA H100 80GB HBM3, 570.10, 9.0\n"
    assert hardware.parse_nvidia_smi(text) == (
        NvidiaGpu(name="NVIDIA GeForce RTX 4090", driver=580, capability=(8, 9)),
        NvidiaGpu(name="NVIDIA H100 80GB HBM3", driver=570, capability=(9, 0)),
    )


def test_nvidia_smi_without_capability_column():
    (gpu,) = hardware.parse_nvidia_smi("Quadro K2000, 470.256.02\n")
    assert gpu == NvidiaGpu(name="Quadro K2000", driver=470, capability=None)


@pytest.mark.parametrize("text", ["", "No devices were found\n", "a, b, c\n", "[Unknown Error]"])
def test_nvidia_smi_without_gpus(text):
    assert hardware.parse_nvidia_smi(text) == ()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_old_nvidia_smi_is_asked_again_without_capability(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '  *compute_cap*) echo "Field \\"compute_cap\\" is not a valid field to query."; exit 2;;\n'
        '  *) echo "Tesla K80, 470.82.01";;\n'
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (gpu,), problem = hardware.nvidia_gpus()
    assert gpu.driver == 470
    assert not problem


def test_broken_nvidia_smi_counts_as_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_nvidia_smi", lambda: str(tmp_path / "missing"))
    assert hardware.nvidia_gpus() == ((), "")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("said", "told"),
    [
        # After an update of the driver, until the next start of the computer.
        ("Failed to initialize NVML: Driver/library version mismatch", True),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", True),
        ("No devices were found", False),
        ("", False),
    ],
)
def test_a_driver_that_does_not_answer_is_told(tmp_path, monkeypatch, said, told):
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "{said}"\nexit 9\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus, problem = hardware.nvidia_gpus()
    assert gpus == ()
    assert bool(problem) is told
    if told:
        assert said.rstrip(".") in problem
        assert "restart the computer and run `python -m installer setup`" in problem


@pytest.mark.parametrize(
    ("vendor", "kind", "found"),
    [
        ("0x10de", "0x030000", True),
        ("0x10de", "0x030200", True),
        # Its sound.
        ("0x10de", "0x040300", False),
        ("0x1002", "0x030000", False),
    ],
)
def test_an_nvidia_gpu_is_seen_without_its_driver(tmp_path, vendor, kind, found):
    folder = tmp_path / "0000:01:00.0"
    folder.mkdir()
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    (tmp_path / "0000:00:00.0").mkdir()
    assert hardware.has_nvidia_on_pci(tmp_path) is found


def test_a_gpu_without_its_driver_is_told(monkeypatch):
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: ((), ""))
    monkeypatch.setattr(hardware, "has_nvidia_on_pci", lambda _: True)
    assert "install its newest" in hardware.probe_machine().nvidia_problem


def test_amd_nodes_are_read_and_processors_left_out(tmp_path):
    for number, version in enumerate((0, 110000, 90010, 100306)):
        node = tmp_path / str(number)
        node.mkdir()
        (node / "properties").write_text(f"cpu_cores_count 0\ngfx_target_version {version}\n")
    assert sorted(hardware.amd_targets(tmp_path)) == ["gfx1036", "gfx1100", "gfx90a"]


def test_no_amd_driver(tmp_path):
    assert hardware.amd_targets(tmp_path / "missing") == ()


def test_intel_cards_are_read_once_each(tmp_path):
    for card, vendor, device in (
        ("card0", "0x8086", "0x56a0"),
        ("card0-HDMI-A-1", "0x8086", "0x56a0"),
        ("card1", "0x10de", "0x2684"),
    ):
        folder = tmp_path / card / "device"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text(f"{device}\n")
    assert hardware.intel_from_sysfs(tmp_path) == (0x56A0,)


def test_intel_card_with_unreadable_id_is_left_out(tmp_path):
    folder = tmp_path / "card0" / "device"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text("0x8086\n")
    assert hardware.intel_from_sysfs(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "device_id"),
    [
        (r"PCI\VEN_8086&DEV_E20B&SUBSYS_11008086", 0xE20B),
        (r"pci\ven_8086&dev_56a0", 0x56A0),
        (r"PCI\VEN_10DE&DEV_2684", None),
        ("", None),
    ],
)
def test_intel_id_in_windows_identifier(text, device_id):
    assert hardware.intel_id_in(text) == device_id


@pytest.mark.parametrize(
    ("text", "amd"),
    [
        (r"PCI\VEN_1002&DEV_744C&REV_C8", True),
        (r"pci\ven_1002&dev_164e", True),
        (r"PCI\VEN_10DE&DEV_2684", False),
        ("", False),
    ],
)
def test_amd_in_windows_identifier(text, amd):
    assert hardware.is_amd(text) is amd


def test_this_machine_can_be_probed():
    assert hardware.probe_machine().system
