"""A GPU under Windows: what its driver tells, with the engine's share from Windows itself."""

from dataclasses import replace

from app.core.device import DeviceSnapshot
from app.monitor.ancestry import Ancestry
from app.monitor.device_probe import DeviceProbe
from app.monitor.pdh import ProcessCounters


class WddmProbe:
    """Adds to another probe's snapshots what our engine has on the GPU and in its shared memory."""

    def __init__(
        self,
        probe: DeviceProbe,
        counters: ProcessCounters,
        *,
        only_gpu: bool,
        ancestry: Ancestry | None = None,
    ) -> None:
        """Look through another probe.

        Args:
            probe: Of the GPU; closed with this one.
            counters: Of all processes; closed with this probe.
            only_gpu: Whether a process's memory is on this GPU for certain: Windows tells it for
                all GPUs together as far as we ask.
            ancestry: Which processes belong to the engine.
        """
        self._probe = probe
        self._counters = counters
        self._only_gpu = only_gpu
        self._ancestry = Ancestry() if ancestry is None else ancestry

    @property
    def driver(self) -> str:
        """Of the GPU."""
        return self._probe.driver

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now."""
        snapshot = self._probe.snapshot(engine_pid)
        if snapshot is None or engine_pid is None:
            return snapshot
        processes = self._counters.read()
        if processes is None:
            return snapshot
        ours = [
            memory for pid, memory in processes.items() if self._ancestry.descends(pid, engine_pid)
        ]
        engine_bytes = snapshot.engine_bytes
        if engine_bytes is None and self._only_gpu:
            engine_bytes = sum(memory.dedicated_bytes for memory in ours)
        return replace(
            snapshot,
            engine_bytes=engine_bytes,
            shared_bytes=sum(memory.shared_bytes for memory in ours),
        )

    def close(self) -> None:
        """Let go of driver and counters."""
        self._probe.close()
        self._counters.close()
