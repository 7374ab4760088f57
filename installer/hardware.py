"""Looks for GPUs, with nothing but the standard library and the drivers' own tools."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from installer.torch_build import RUN_SETUP, Machine, NvidiaGpu

# Waking a GPU whose driver is not kept loaded can take seconds.
_NVIDIA_SMI_TIMEOUT_S = 30
_INTEL_VENDOR = "0x8086"
_NVIDIA_VENDOR = "0x10de"
# First byte of a PCI class: display controllers, those without a screen included.
_DISPLAY_CONTROLLER = "0x03"
# The device class of display adapters in the Windows registry.
_DISPLAY_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def probe_machine() -> Machine:
    """What this machine has; what cannot be found out counts as not there."""
    nvidia, problem = nvidia_gpus()
    if not nvidia and not problem and has_nvidia_on_pci(Path("/sys/bus/pci/devices")):
        problem = f"no NVIDIA driver knows the NVIDIA GPU here; install its newest and {RUN_SETUP}"
    return Machine(
        system=platform.system(),
        nvidia=nvidia,
        nvidia_problem=problem,
        amd_targets=amd_targets(Path("/sys/class/kfd/kfd/topology/nodes")),
        has_amd_adapter=any(is_amd(name) for name in _adapters()),
        intel_device_ids=intel_device_ids(),
    )


def nvidia_gpus() -> tuple[tuple[NvidiaGpu, ...], str]:
    """GPUs that `nvidia-smi` lists; or why it lists none although there is a driver, else ""."""
    program = _nvidia_smi()
    if program is None:
        return (), ""
    problem = ""
    # Drivers before 510 do not know `compute_cap` and fail on it.
    for fields in ("name,driver_version,compute_cap", "name,driver_version"):
        command = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            result = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_NVIDIA_SMI_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return (), _unanswered("no answer in time")
        except OSError:
            return (), ""
        gpus = parse_nvidia_smi(result.stdout) if result.returncode == 0 else ()
        if gpus:
            return gpus, ""
        problem = _smi_problem(result.stdout or result.stderr)
    return (), problem


def _smi_problem(text: str) -> str:
    """What it says when it fails; a machine that lost its card has the driver still."""
    first = text.strip().partition("\n")[0].strip().rstrip(".")
    return "" if not first or "no devices" in first.lower() else _unanswered(first)


def _unanswered(why: str) -> str:
    return f"the NVIDIA driver does not answer ({why}); restart the computer and {RUN_SETUP}"


def has_nvidia_on_pci(devices: Path) -> bool:
    """Whether Linux sees an NVIDIA GPU, whatever drives it.

    Args:
        devices: Its folder of PCI devices.
    """
    for vendor in devices.glob("*/vendor"):
        try:
            if vendor.read_text(encoding="ascii").strip() == _NVIDIA_VENDOR:
                kind = (vendor.parent / "class").read_text(encoding="ascii").strip()
                if kind.startswith(_DISPLAY_CONTROLLER):
                    return True
        except (OSError, UnicodeDecodeError):
            continue
    return False


def parse_nvidia_smi(text: str) -> tuple[NvidiaGpu, ...]:
    """Read lines like "NVIDIA GeForce RTX 4090, 580.65.06, 8.9"."""
    gpus: list[NvidiaGpu] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        driver = re.match(r"\d+", cells[1]) if len(cells) > 1 else None
        if driver is None:
            continue
        capability = re.fullmatch(r"(\d+)\.(\d+)", cells[2]) if len(cells) > 2 else None
        gpus.append(
            NvidiaGpu(
                name=cells[0],
                driver=int(driver[0]),
                capability=(int(capability[1]), int(capability[2])) if capability else None,
            )
        )
    return tuple(gpus)


def amd_targets(nodes: Path) -> tuple[str, ...]:
    """LLVM names of the GPUs that the Linux kernel's compute driver lists.

    Args:
        nodes: Its folder of nodes; processors are nodes too, with target version 0.
    """
    targets: list[str] = []
    try:
        properties = [path.read_text(encoding="ascii") for path in nodes.glob("*/properties")]
    except (OSError, UnicodeDecodeError):
        return ()
    for text in properties:
        match = re.search(r"^gfx_target_version (\d+)$", text, re.MULTILINE)
        if match and int(match[1]):
            targets.append(gfx_name(int(match[1])))
    return tuple(targets)


def gfx_name(target_version: int) -> str:
    """Name of a target version: 110000 -> "gfx1100", 90010 -> "gfx90a"."""
    major, rest = divmod(target_version, 10_000)
    minor, step = divmod(rest, 100)
    return f"gfx{major}{minor:x}{step:x}"


def intel_device_ids() -> tuple[int, ...]:
    """PCI device ids of Intel graphics."""
    if sys.platform == "win32":
        found = (intel_id_in(name) for name in _adapters())
        return tuple(dict.fromkeys(number for number in found if number is not None))
    return intel_from_sysfs(Path("/sys/class/drm"))


def intel_from_sysfs(drm: Path) -> tuple[int, ...]:
    """Device ids of the cards in Linux' display folder."""
    found: list[int] = []
    for vendor in drm.glob("card*/device/vendor"):
        try:
            if vendor.read_text(encoding="ascii").strip() == _INTEL_VENDOR:
                found.append(int((vendor.parent / "device").read_text(encoding="ascii"), 16))
        except (OSError, ValueError):
            continue
    # Outputs such as card0-HDMI-A-1 lead to the same device again.
    return tuple(dict.fromkeys(found))


def intel_id_in(matching_device_id: str) -> int | None:
    r"""The device id in a Windows identifier like "PCI\VEN_8086&DEV_E20B"; None for others."""
    match = re.search(r"ven_8086&dev_([0-9a-f]{4})", matching_device_id, re.IGNORECASE)
    return int(match[1], 16) if match else None


def is_amd(matching_device_id: str) -> bool:
    r"""Whether a Windows identifier is of an AMD GPU, like "PCI\VEN_1002&DEV_744C"."""
    return "ven_1002" in matching_device_id.lower()


def _nvidia_smi() -> str | None:
    found = shutil.which("nvidia-smi")
    if found:
        return found
    # Not always on the search path: WSL, and Windows drivers of some makers.
    system_root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    for place in ("/usr/lib/wsl/lib/nvidia-smi", rf"{system_root}\System32\nvidia-smi.exe"):
        if os.path.isfile(place):
            return place
    return None


if sys.platform == "win32":
    import winreg

    def _adapters() -> tuple[str, ...]:
        """Windows' identifiers of the display adapters that have a driver."""
        found: list[str] = []
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _DISPLAY_CLASS) as adapters:
                count = winreg.QueryInfoKey(adapters)[0]
                names = [winreg.EnumKey(adapters, index) for index in range(count)]
        except OSError:
            return ()
        for name in names:
            try:
                with winreg.OpenKey(
                    winreg.HKEY_LOCAL_MACHINE, rf"{_DISPLAY_CLASS}\{name}"
                ) as adapter:
                    found.append(str(winreg.QueryValueEx(adapter, "MatchingDeviceId")[0]))
            except OSError:
                continue
        return tuple(found)

else:

    def _adapters() -> tuple[str, ...]:
        """Linux tells it in other ways."""
        return ()
