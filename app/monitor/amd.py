"""AMD GPUs through what the amdgpu driver of Linux tells in /sys.

Files: `mem_info_vram_total`, `mem_info_vram_used`, `gpu_busy_percent` and hwmon of the card, and
`/sys/class/kfd/kfd/proc/PID/vram_GPUID` for the memory of a ROCm process.
"""

import time
from collections.abc import Callable
from pathlib import Path

from app.core.device import DeviceSnapshot
from app.monitor.details import Details, SlowDetails
from app.monitor.gpu_names import amd_name
from app.monitor.sysfs import (
    DRM_ROOT,
    card_number,
    cards,
    hwmon,
    pci_address,
    read_int,
    read_text,
)

AMD_VENDOR_ID = 0x1002
KFD_ROOT = Path("/sys/class/kfd/kfd")
MIN_OWN_BYTES = 2 << 30
"""The graphics part of a processor has less, set aside at the start: it computes in RAM."""
_MILLIDEGREES = 1000.0
_MICROWATTS = 1e6


def open_amd_probes(drm_root: Path = DRM_ROOT, kfd_root: Path = KFD_ROOT) -> tuple["AmdProbe", ...]:
    """A probe for each AMD GPU with memory of its own; none elsewhere than on Linux."""
    probes = (AmdProbe(card, kfd_root=kfd_root) for card in cards(drm_root, AMD_VENDOR_ID))
    return tuple(
        probe
        for probe in probes
        if (now := probe.snapshot(None)) is not None and now.total_bytes >= MIN_OWN_BYTES
    )


class AmdProbe:
    """One AMD GPU.

    Attributes:
        driver: "amdgpu", with the version where the module has one.
    """

    def __init__(
        self,
        card: Path,
        *,
        kfd_root: Path = KFD_ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        version = read_text(card / "device" / "driver" / "module" / "version")
        self.driver = "amdgpu" if version is None else f"amdgpu {version}"
        self._card = card
        self._device = card / "device"
        self._kfd_root = kfd_root
        self._pci_address = pci_address(card)
        # Only some cards for servers tell their name themselves.
        told = read_text(self._device / "product_name") or amd_name(self._device)
        self._name = told or f"AMD GPU {card_number(card)}"
        self._gpu_id = _kfd_gpu_id(card, kfd_root)
        self._details = SlowDetails(self._read_details, clock)

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now; None while the driver does not tell its memory."""
        total_bytes = read_int(self._device / "mem_info_vram_total")
        used_bytes = read_int(self._device / "mem_info_vram_used")
        if not total_bytes or used_bytes is None:
            return None
        details = self._details.now()
        return DeviceSnapshot(
            index=card_number(self._card),
            name=self._name,
            total_bytes=total_bytes,
            used_bytes=used_bytes,
            engine_bytes=self._engine_bytes(engine_pid),
            utilization_percent=details.load_percent,
            temperature_c=details.temperature_c,
            power_w=details.power_w,
            pci_address=self._pci_address,
        )

    def close(self) -> None:
        """Nothing is held."""

    def _read_details(self) -> Details:
        # The driver asks the card's own controller for each.
        load = read_int(self._device / "gpu_busy_percent")
        temperature = hwmon(self._card, "temp1_input")
        power = hwmon(self._card, "power1_average")
        if power is None:
            power = hwmon(self._card, "power1_input")
        return Details(
            load_percent=None if load is None else float(load),
            temperature_c=None if temperature is None else temperature / _MILLIDEGREES,
            power_w=None if power is None else power / _MICROWATTS,
        )

    def _engine_bytes(self, engine_pid: int | None) -> int | None:
        if engine_pid is None or self._gpu_id is None:
            return None
        return read_int(self._kfd_root / "proc" / str(engine_pid) / f"vram_{self._gpu_id}")


def _kfd_gpu_id(card: Path, kfd_root: Path) -> int | None:
    """The number ROCm's kernel driver has for this card: both know its render node."""
    renders = [path.name for path in (card / "device" / "drm").glob("renderD*")]
    for node in sorted((kfd_root / "topology" / "nodes").glob("*")):
        properties = read_text(node / "properties") or ""
        pairs = (line.split(maxsplit=1) for line in properties.splitlines())
        values = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
        if f"renderD{values.get('drm_render_minor')}" in renders:
            return read_int(node / "gpu_id")
    return None
