"""How much memory the engine process holds now, and held at most since a job began."""

import contextlib
from pathlib import Path
from typing import Any

import psutil
import torch

from app.core.events import EngineMemory

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class MemoryMeter:
    """Reads the memory of this process and of one device."""

    def __init__(self, device: torch.device) -> None:
        self._backend: Any = None
        if device.type != "cpu":
            self._backend = torch.cuda if device.type == "cuda" else torch.xpu
        self._device = device
        self._process = psutil.Process()
        self._host_peak_bytes = 0
        self._kernel_keeps_peak = False

    def start_job(self) -> None:
        """Forget the peaks of earlier jobs."""
        self._host_peak_bytes = 0
        # Linux keeps the peak itself and forgets it when told so (man 5 proc, clear_refs);
        # elsewhere the largest value seen here has to do.
        self._kernel_keeps_peak = False
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text("5")
            self._kernel_keeps_peak = True
        if self._backend is not None:
            self._backend.reset_peak_memory_stats(self._device)

    def measure(self) -> EngineMemory:
        """The memory held at this moment, and the peaks since `start_job`."""
        rss = int(self._process.memory_info().rss)
        peak = _kernel_peak_bytes() if self._kernel_keeps_peak else 0
        self._host_peak_bytes = max(self._host_peak_bytes, rss, peak)
        device = self._device
        backend = self._backend
        return EngineMemory(
            device_allocated_bytes=None if backend is None else backend.memory_allocated(device),
            device_reserved_bytes=None if backend is None else backend.memory_reserved(device),
            device_peak_bytes=None if backend is None else backend.max_memory_allocated(device),
            host_rss_bytes=rss,
            host_peak_rss_bytes=self._host_peak_bytes,
        )


def _kernel_peak_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
