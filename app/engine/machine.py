"""The machine as the planner knows it, from what the monitor saw or from a description."""

import importlib.metadata

from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot, HostSnapshot
from app.core.measured_run import CalibrationKey
from app.core.processor import cpu_device_name
from app.core.profile import Calibration, DeviceProfile, HostProfile
from app.core.units import GIB
from app.engine.overheads import default_calibration

CPU = "cpu"
CPU_DRIVER = "cpu"
"""A processor has no driver whose version matters; a name sets it apart from an unknown one."""
SYSTEM_RAM_BYTES = 3 * GIB
"""Of a described computer, taken by the system and a browser; a guess, at most a quarter."""
_KINDS = {"nvidia": "cuda", "amdgpu": "rocm", "i915": "xpu", "xe": "xpu"}


def device_profile(
    device: DeviceSnapshot | None,
    host: HostSnapshot,
    *,
    store: CalibrationStore | None = None,
    torch_version: str = "",
    driver: str = "",
) -> DeviceProfile:
    """The device that a run would use.

    Args:
        device: The GPU now; None is the CPU, whose memory is the computer's RAM.
        host: The computer now.
        store: What was measured here, or None to plan with assumptions only.
        torch_version: Of the engine; `installed_torch` tells it without loading torch.
        driver: As its probe calls it, with the version; "" where it is not known.
    """
    if device is None:
        name = cpu_device_name()
        return DeviceProfile(
            kind=CPU,
            name=name,
            total_bytes=host.total_bytes,
            free_bytes=host_profile(host).available_bytes,
            calibration=_calibration(CPU, name, CPU_DRIVER, torch_version, store),
        )
    kind = device_kind(driver)
    # What our engine holds it gives back when it needs it for something else.
    free_bytes = device.total_bytes - device.used_bytes + (device.engine_bytes or 0)
    return DeviceProfile(
        kind=kind,
        name=device.name,
        total_bytes=device.total_bytes,
        free_bytes=min(device.total_bytes, max(0, free_bytes)),
        calibration=_calibration(kind, device.name, driver, torch_version, store),
    )


def host_profile(host: HostSnapshot, *, loaded: bool = False) -> HostProfile:
    """The computer that a run would use.

    Args:
        host: The computer now.
        loaded: Whether the engine holds the model that is planned, as `plan_generation` has it;
            otherwise what it holds counts as free, because it would be given back.
    """
    given_back = 0 if loaded else host.engine_rss_bytes or 0
    return HostProfile(
        total_bytes=host.total_bytes,
        available_bytes=min(host.total_bytes, host.available_bytes + given_back),
        swap_free_bytes=max(0, host.swap_total_bytes - host.swap_used_bytes),
    )


def calibration_key(device_name: str, *, driver: str, torch_version: str) -> CalibrationKey:
    """What measurements of a device are kept under.

    Args:
        device_name: As in its profile.
        driver: As its probe calls it; "" where it is not known.
        torch_version: Of the engine.
    """
    on_cpu = device_name == cpu_device_name()
    return CalibrationKey(
        gpu_name=device_name, driver=CPU_DRIVER if on_cpu else driver, torch_version=torch_version
    )


def described_device(
    vram_gib: float, *, name: str | None = None, growing: bool | None = None
) -> DeviceProfile:
    """A GPU that is not here, with nothing on it yet; planned with assumptions only.

    Args:
        vram_gib: Its memory.
        name: Of it; speeds are known for some.
        growing: Whether the allocator's segments can grow, as under Linux; None is as here.
    """
    total_bytes = round(vram_gib * GIB)
    name = name or f"{vram_gib:g} GB GPU"
    return DeviceProfile(
        kind="cuda",
        name=name,
        total_bytes=total_bytes,
        free_bytes=total_bytes,
        calibration=default_calibration("cuda", name, growing=growing),
        simulated=True,
    )


def described_host(ram_gib: float) -> HostProfile:
    """A computer that is not here, running little else."""
    total_bytes = round(ram_gib * GIB)
    return HostProfile(
        total_bytes=total_bytes,
        available_bytes=total_bytes - min(SYSTEM_RAM_BYTES, total_bytes // 4),
    )


def installed_torch() -> str:
    """The version of the torch that the engine would load, without loading it; "" for none."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def device_kind(driver: str) -> str:
    """The kind of GPU behind a driver's name, as in `DeviceProfile.kind`."""
    first = driver.partition(" ")[0].lower()
    return _KINDS.get(first, "cuda")


def _calibration(
    kind: str, name: str, driver: str, torch_version: str, store: CalibrationStore | None
) -> Calibration:
    default = default_calibration(kind, name)
    if store is None:
        return default
    key = CalibrationKey(gpu_name=name, driver=driver, torch_version=torch_version)
    return store.calibration(key, default)
