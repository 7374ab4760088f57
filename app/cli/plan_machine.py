"""The machine a plan is for: this one, or one that was described."""

from dataclasses import dataclass

from app.cli.gpu_here import gpu_here
from app.core.calibration_store import CalibrationStore
from app.core.paths import app_paths
from app.core.profile import DeviceProfile, HostProfile
from app.core.units import GIB
from app.engine.machine import (
    CPU,
    described_device,
    described_host,
    device_profile,
    host_profile,
    installed_torch,
)
from app.monitor.host import HostProbe

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

    @property
    def on_cpu(self) -> bool:
        """Whether runs go to the CPU."""
        return self.device.kind == CPU


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
    found = gpu_here(device)
    profile = device_profile(
        None if found is None else found.snapshot,
        host_snapshot,
        store=store,
        torch_version=installed_torch(),
        driver="" if found is None else found.driver,
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
