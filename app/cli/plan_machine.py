"""The machine a plan is for: this one, or one that was described."""

import re
from dataclasses import dataclass

from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot
from app.core.errors import SetupError
from app.core.paths import app_paths
from app.core.profile import DeviceProfile, HostProfile
from app.core.units import GIB
from app.engine.machine import (
    described_device,
    described_host,
    device_profile,
    host_profile,
    installed_torch,
)
from app.monitor.host import HostProbe
from app.monitor.probe import find_probes

PLENTY_BYTES = 1 << 50
"""RAM of a described computer about which nothing was said: it shall not be what is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a plan is for.

    Attributes:
        device: To run on.
        host: The computer around it.
        ram_told: Whether its RAM is known; otherwise there is plenty.
    """

    device: DeviceProfile
    host: HostProfile
    ram_told: bool


def machine_for(*, vram_gib: float | None, ram_gib: float | None, device: str) -> Machine:
    """The machine of the arguments.

    Args:
        vram_gib: Of a described GPU; None is this machine's.
        ram_gib: Of a described computer; None is this one's, or plenty beside a described GPU.
        device: As the engine has it: "auto", "cpu", "cuda:1", ...

    Raises:
        SetupError: This machine has no such device.
    """
    host_snapshot = HostProbe().snapshot(None)
    host = host_profile(host_snapshot) if ram_gib is None else described_host(ram_gib)
    if vram_gib is not None:
        if ram_gib is None:
            host = HostProfile(total_bytes=PLENTY_BYTES, available_bytes=PLENTY_BYTES)
        return Machine(device=described_device(vram_gib), host=host, ram_told=ram_gib is not None)
    store = CalibrationStore(app_paths().calibration_file)
    found = None if device == "cpu" else _gpu(device)
    snapshot, driver = (None, "") if found is None else found
    profile = device_profile(
        snapshot, host_snapshot, store=store, torch_version=installed_torch(), driver=driver
    )
    if found is None and ram_gib is not None:
        profile = described_cpu(profile, host)
    return Machine(device=profile, host=host, ram_told=True)


def described_cpu(profile: DeviceProfile, host: HostProfile) -> DeviceProfile:
    """This machine's processor with another computer's RAM."""
    return DeviceProfile(
        kind=profile.kind,
        name=f"CPU with {host.total_bytes / GIB:g} GB of RAM",
        total_bytes=host.total_bytes,
        free_bytes=host.available_bytes,
        calibration=profile.calibration,
        simulated=True,
    )


def _gpu(device: str) -> tuple[DeviceSnapshot, str] | None:
    """The GPU and its driver, or None where "auto" finds none."""
    match = re.search(r":(\d+)$", device)
    index = int(match.group(1)) if match else 0
    probes = find_probes()
    try:
        # As torch counts: GPUs in the order of their driver, the first is the usual one.
        if index < len(probes):
            snapshot = probes[index].snapshot(None)
            if snapshot is not None:
                return snapshot, probes[index].driver
    finally:
        for probe in probes:
            probe.close()
    if device == "auto":
        return None
    raise SetupError(
        f"There is no GPU “{device}” to plan for: choose another with --device, "
        "or describe one with --vram-gib.",
        code="plan.no_device",
    )
