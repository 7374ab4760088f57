"""The machine as the engine itself sees it, for the plan of a run."""

import sys
from dataclasses import replace

import psutil
import torch

from app.core.calibration_store import CalibrationStore
from app.core.profile import Calibration, DeviceProfile, HostProfile
from app.engine.compute_device import ComputeDevice
from app.engine.machine import calibration_key
from app.engine.overheads import default_calibration
from app.engine.simulated_device import SimulatedDevice
from app.engine.vram_limit import keep_in_vram

CPU = "cpu"


def profiles_of(
    device: ComputeDevice, store: CalibrationStore | None
) -> tuple[DeviceProfile, HostProfile]:
    """Device and computer now; what this process holds counts as free, because it gives it back.

    Args:
        device: To run on.
        store: What was measured here; None plans with assumptions only.
    """
    calibration = _calibration(device, store)
    profile = DeviceProfile(
        kind=device.kind,
        name=device.name,
        total_bytes=device.total_bytes,
        free_bytes=room_bytes(device, calibration),
        calibration=calibration,
        simulated=device.simulated,
    )
    return profile, _host_profile(device)


def room_bytes(device: ComputeDevice, calibration: Calibration) -> int:
    """What a run of ours can have on the device, with all that our process holds of it now.

    What is planned with it is carried out within it: see `keep_in_vram`.
    """
    if device.kind == CPU:
        return _host_profile(device).available_bytes
    keep_in_vram(device)
    held_bytes = device.allocated_bytes() + calibration.context_bytes
    return min(device.total_bytes, device.free_bytes() + held_bytes)


def _host_profile(device: ComputeDevice) -> HostProfile:
    host = device.host_profile()
    if isinstance(device, SimulatedDevice) and device.story.host is not None:
        return host  # A story tells what there is for a run.
    # Of the real computer a part is ours already.
    held_bytes = int(psutil.Process().memory_info().rss)
    available_bytes = min(host.total_bytes, host.available_bytes + held_bytes)
    return replace(host, available_bytes=available_bytes)


def _calibration(device: ComputeDevice, store: CalibrationStore | None) -> Calibration:
    default = default_calibration(device.kind, device.name)
    if isinstance(device, SimulatedDevice):
        story = device.story
        return replace(
            default,
            # It has an account of tensors and of its context, and of nothing else.
            context_bytes=story.context_bytes,
            workspace_bytes=0,
            reserve_bytes=0,
            reserve_share=0.0,
            compute_flops=story.tflops * 1e12 or default.compute_flops,
            copy_bytes_per_s=story.copy_bytes_per_s or default.copy_bytes_per_s,
        )
    if store is None:
        return default
    # The driver's name for itself is the monitor's to know; an entry of any driver is found.
    key = calibration_key(device.name, driver="", torch_version=str(torch.__version__))
    return store.calibration(key, default)


def library_versions() -> tuple[str, ...]:
    """Of what a picture's bits depend on."""
    return (str(torch.__version__), sys.version)
