"""What can look at a GPU."""

from typing import Protocol

from app.core.device import DeviceSnapshot


class DeviceProbe(Protocol):
    """Looks at one GPU; used by one thread at a time."""

    @property
    def driver(self) -> str:
        """The driver it asks, and its version where that can be told."""
        ...

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now, with the memory of this process; None while the GPU does not answer."""
        ...

    def close(self) -> None:
        """Let go of the driver; the probe is not used any more."""
        ...
