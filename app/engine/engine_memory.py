"""How much memory the engine process holds now, and held at most in a phase and in a job."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import psutil

from app.core.events import EngineMemory
from app.engine.compute_device import ComputeDevice

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class MemoryMeter:
    """Reads the memory of this process and of one device.

    Attributes:
        idle_bytes: Resident memory of the process when this began, before it had any model.
    """

    def __init__(
        self,
        device: ComputeDevice,
        *,
        placed_bytes: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """Begin with an engine that has no model.

        Args:
            device: Whose memory is read.
            placed_bytes: Tells how much of it are weights that stay, and slots for others.
        """
        self._device = device
        self._placed_bytes = placed_bytes
        self._on_cpu = device.kind == "cpu"
        self._process = psutil.Process()
        self.idle_bytes = int(self._process.memory_info().rss)
        # Peaks of the phases before, and of the present one.
        self._host_peak_bytes = 0
        self._device_peak_bytes = 0
        self._phase_host_peak_bytes = 0
        self._kernel_keeps_peak = False

    def start_job(self) -> None:
        """Forget the peaks of earlier jobs."""
        self._host_peak_bytes = self._device_peak_bytes = 0
        self._forget_peaks()

    def start_phase(self) -> None:
        """Measure the peaks of a phase from here on; those of the job go on."""
        self.measure()
        self._host_peak_bytes = max(self._host_peak_bytes, self._phase_host_peak_bytes)
        if not self._on_cpu:
            self._device_peak_bytes = max(self._device_peak_bytes, self._device.peak_bytes())
        self._forget_peaks()

    def phase_peak_bytes(self) -> int:
        """The most since `start_phase`: of tensors on the device; on the CPU, of the process."""
        self.measure()
        return self._phase_host_peak_bytes if self._on_cpu else self._device.peak_bytes()

    def measure(self) -> EngineMemory:
        """The memory held at this moment, and the peaks since `start_job`."""
        rss = int(self._process.memory_info().rss)
        peak = _kernel_peak_bytes() if self._kernel_keeps_peak else 0
        self._phase_host_peak_bytes = max(self._phase_host_peak_bytes, rss, peak)
        device = self._device
        gpu = not self._on_cpu
        resident_bytes, slots_bytes = self._placed_bytes()
        return EngineMemory(
            device_allocated_bytes=device.allocated_bytes() if gpu else None,
            device_reserved_bytes=device.reserved_bytes() if gpu else None,
            device_peak_bytes=max(self._device_peak_bytes, device.peak_bytes()) if gpu else None,
            host_rss_bytes=rss,
            host_peak_rss_bytes=max(self._host_peak_bytes, self._phase_host_peak_bytes),
            resident_bytes=resident_bytes,
            slots_bytes=slots_bytes,
        )

    def _forget_peaks(self) -> None:
        self._phase_host_peak_bytes = 0
        # Linux keeps the peak itself and forgets it when told so (man 5 proc, clear_refs);
        # elsewhere the largest value seen here has to do.
        self._kernel_keeps_peak = False
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text("5")
            self._kernel_keeps_peak = True
        if not self._on_cpu:
            self._device.reset_peak()


def _kernel_peak_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
