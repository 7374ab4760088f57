"""Snapshots of the hardware: plain numbers, None where the machine does not tell."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSnapshot:
    """One GPU at one moment.

    Attributes:
        index: As the driver counts.
        name: As the driver calls it.
        total_bytes: Memory of the card.
        used_bytes: By everyone.
        engine_bytes: By our engine process; None where the driver does not tell per process.
        utilization_percent: 0 to 100, or None.
        temperature_c: Or None.
        power_w: Or None.
        shared_bytes: RAM that our engine uses as memory of the GPU: pinned, or moved there by
            Windows when the GPU is full; None where the system does not tell.
        pci_address: Such as "0000:01:00.0"; "" where the driver does not tell it.
    """

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    engine_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    shared_bytes: int | None = None
    pci_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSnapshot:
    """The computer's own memory at one moment.

    Attributes:
        total_bytes: RAM in all.
        available_bytes: RAM that can be had without swapping.
        engine_rss_bytes: Resident memory of our engine process; None when it does not run.
        swap_used_bytes: Page file or swap in use.
        swap_total_bytes: Page file or swap in all.
    """

    total_bytes: int
    available_bytes: int
    engine_rss_bytes: int | None = None
    swap_used_bytes: int = 0
    swap_total_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the monitor saw at one moment; `time_s` is on the monotonic clock."""

    time_s: float
    host: HostSnapshot
    device: DeviceSnapshot | None = None
