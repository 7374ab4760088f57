"""Intel GPUs with memory of their own, through what their Linux driver tells in /sys.

Only drivers with `lmem_total_bytes` and `lmem_avail_bytes` tell how much is in use; for others
(xe of today, and all on Windows) there is no probe, and the engine's own report is shown.
"""

from pathlib import Path

from app.core.device import DeviceSnapshot
from app.monitor.gpu_names import intel_name
from app.monitor.sysfs import DRM_ROOT, card_number, cards, hwmon, pci_address, read_int

INTEL_VENDOR_ID = 0x8086
_MILLIDEGREES = 1000.0


def open_intel_probes(drm_root: Path = DRM_ROOT) -> tuple["IntelProbe", ...]:
    """A probe for each Intel GPU that tells its memory; none elsewhere than on Linux."""
    probes = (IntelProbe(card) for card in cards(drm_root, INTEL_VENDOR_ID))
    return tuple(probe for probe in probes if probe.snapshot(None) is not None)


class IntelProbe:
    """One Intel GPU.

    Attributes:
        driver: Name of the kernel driver, "i915" or "xe".
    """

    def __init__(self, card: Path) -> None:
        link = card / "device" / "driver"
        self.driver = link.resolve().name if link.exists() else "i915"
        self._card = card
        self._pci_address = pci_address(card)
        self._name = intel_name(card / "device") or f"Intel GPU {card_number(card)}"

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now, without memory per process; None while the driver does not tell it."""
        del engine_pid
        total_bytes = read_int(self._card / "lmem_total_bytes")
        free_bytes = read_int(self._card / "lmem_avail_bytes")
        if not total_bytes or free_bytes is None:
            return None
        temperature = hwmon(self._card, "temp1_input")
        return DeviceSnapshot(
            index=card_number(self._card),
            name=self._name,
            total_bytes=total_bytes,
            used_bytes=max(0, total_bytes - free_bytes),
            temperature_c=None if temperature is None else temperature / _MILLIDEGREES,
            pci_address=self._pci_address,
        )

    def close(self) -> None:
        """Nothing is held."""
