"""One look at everything: the GPU the engine works on, the computer, and the time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.core.device import DeviceSnapshot, Sample
from app.core.events import EngineReady
from app.monitor.device_probe import DeviceProbe
from app.monitor.host import HostProbe
from app.monitor.probe import find_probes

SEARCH_INTERVAL_S = 1.0
"""How often GPUs of the same name are asked which of them has the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProcess:
    """The engine process as the monitor needs to know it.

    Attributes:
        pid: None when none runs.
        device_name: As torch calls its device; "" when unknown.
        pci_address: Of its device, as in `DeviceSnapshot`; "" when unknown.
    """

    pid: int | None = None
    device_name: str = ""
    pci_address: str = ""


def engine_process(ready: EngineReady) -> EngineProcess:
    """The process that has become ready."""
    return EngineProcess(
        pid=ready.pid, device_name=ready.device_name, pci_address=ready.pci_address
    )


class Sampler:
    """Takes samples; used by one thread at a time, whichever that is.

    Of several GPUs it watches the one the engine works on: the one that has the engine's memory,
    else the one in that place, else the one of that name, else the largest.
    """

    def __init__(
        self,
        *,
        probes: tuple[DeviceProbe, ...],
        host: HostProbe,
        engine: Callable[[], EngineProcess] = EngineProcess,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch these.

        Args:
            probes: Of all GPUs; closed by `close`.
            host: Of the computer.
            engine: Tells which process is the engine at the moment.
            clock: Monotonic, in seconds.
        """
        self._probes = probes
        self._host = host
        self._engine = engine
        self._clock = clock
        self._chosen: DeviceProbe | None = None
        self._chosen_for = EngineProcess()
        self._searched_at_s = -float("inf")

    def sample(self) -> Sample:
        """Look now."""
        engine = self._engine()
        now_s = self._clock()
        return Sample(
            time_s=now_s,
            host=self._host.snapshot(engine.pid),
            device=self._device(engine, now_s),
        )

    @property
    def driver(self) -> str:
        """Name and version of the driver of the GPU that is watched; "" without one."""
        return "" if self._chosen is None else self._chosen.driver

    def close(self) -> None:
        """Let go of the GPUs."""
        for probe in self._probes:
            probe.close()

    def _device(self, engine: EngineProcess, now_s: float) -> DeviceSnapshot | None:
        if not self._probes:
            return None
        probe = self._chosen
        if probe is None or engine != self._chosen_for:
            probe = self._choose(engine)
            self._searched_at_s = -float("inf")
        device = probe.snapshot(engine.pid)
        if engine.pid is None or len(self._probes) == 1 or (device and device.engine_bytes):
            return device
        if now_s - self._searched_at_s < SEARCH_INTERVAL_S:
            return device
        self._searched_at_s = now_s
        for other in self._probes:
            snapshot = None if other is probe else other.snapshot(engine.pid)
            if snapshot is not None and snapshot.engine_bytes:
                self._chosen = other
                return snapshot
        return device

    def _choose(self, engine: EngineProcess) -> DeviceProbe:
        """The most likely one, before the engine has memory anywhere."""

        def likelihood(probe: DeviceProbe) -> tuple[bool, bool, int]:
            device = probe.snapshot(None)
            if device is None:
                return (False, False, 0)
            # Equal cards have equal names; torch and drivers do not number them alike.
            is_there = bool(device.pci_address) and device.pci_address == engine.pci_address
            return (is_there, device.name == engine.device_name, device.total_bytes)

        self._chosen = max(self._probes, key=likelihood)
        self._chosen_for = engine
        return self._chosen


OpenSampler = Callable[[Callable[[], EngineProcess]], Sampler]


def open_sampler(engine: Callable[[], EngineProcess]) -> Sampler:
    """A sampler of this machine; waking up a GPU's driver may take half a second."""
    return Sampler(probes=find_probes(), host=HostProbe(), engine=engine)
