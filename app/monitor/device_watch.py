"""The GPU's memory: whose it is, and what of ours Windows moves out of it."""

from app.core.device import DeviceSnapshot
from app.core.events import EngineMemory
from app.core.jobs import Phase
from app.core.plan import GenerationPlan
from app.core.units import MIB
from app.monitor.need_watch import NeedWatch, Use
from app.monitor.run_progress import RunProgress
from app.monitor.shortage import Cause, Shortage

MIN_SIGNIFICANT_BYTES = 64 * MIB
SIGNIFICANT_SHARE = 1 / 200
"""Of the device: what browsers and desktops come and go by."""
OTHER_DEVICE_SHARE = 0.05
"""By how much the memory of the planned device and that of the watched one may differ."""
SPILL_BYTES = 256 * MIB
FULL_SHARE = 0.9
"""Windows moves memory away only when the device is nearly full; else more of it is pinned memory.
So it is while a model is loaded, when what it will be copied from is pinned."""


def is_planned_device(device: DeviceSnapshot, plan: GenerationPlan) -> bool:
    """Whether the watched GPU can be the planned one: torch and drivers count a little apart."""
    difference = abs(device.total_bytes - plan.total_bytes)
    return difference <= device.total_bytes * OTHER_DEVICE_SHARE


class DeviceWatch:
    """A GPU: its use against the needs, and what Windows moves out of it."""

    def __init__(self) -> None:
        self._device: tuple[int, str, int] | None = None
        self._needs: NeedWatch | None = None
        self._share = _Share()
        self._shared_base_bytes: int | None = None

    def look(self, time_s: float, device: DeviceSnapshot, progress: RunProgress) -> Shortage | None:
        """How things stand; None when nothing speaks for a shortage, or nothing can be said."""
        total_bytes = device.total_bytes
        if not is_planned_device(device, progress.plan):
            return None
        known = (device.index, device.name, total_bytes)
        if self._needs is None or known != self._device:
            self._device, self._needs = (
                known,
                NeedWatch(
                    significant_bytes=max(
                        MIN_SIGNIFICANT_BYTES, int(total_bytes * SIGNIFICANT_SHARE)
                    )
                ),
            )
            self._share = _Share()
            self._shared_base_bytes = None
        needs = self._needs.look(time_s, self._share.use(device, progress), progress)
        return self._spill(device, progress) or needs

    def _spill(self, device: DeviceSnapshot, progress: RunProgress) -> Shortage | None:
        shared_bytes = device.shared_bytes
        if shared_bytes is None or progress.phase is None:
            return None
        full = device.used_bytes >= device.total_bytes * FULL_SHARE
        if self._shared_base_bytes is None or not full or progress.phase is Phase.LOAD:
            self._shared_base_bytes = shared_bytes
        spilled_bytes = shared_bytes - self._shared_base_bytes
        if spilled_bytes < SPILL_BYTES:
            return None
        return Shortage(
            cause=Cause.SPILL,
            phase=progress.phase,
            short_bytes=spilled_bytes,
            in_s=0.0,
            took_bytes=spilled_bytes,
        )


class _Share:
    """Which part of a GPU's use is ours.

    Where the driver does not tell, the engine's own word is all there is. It knows nothing of what
    is there besides tensors, and comes with each step only: until then our use is taken to be as
    planned, and others' to be no less than it was.
    """

    def __init__(self) -> None:
        self._others_bytes: int | None = None

    def use(self, device: DeviceSnapshot, progress: RunProgress) -> Use:
        """Who uses the device."""
        used = device.used_bytes
        reported = _reserved(progress.report)
        if device.engine_bytes is not None:
            others = used - max(device.engine_bytes, reported)
        elif self._others_bytes is None:
            # What the run before has left on the device is ours, too.
            self._others_bytes = others = used - _reserved(progress.report or progress.before)
        else:
            reached = progress.reached()
            planned = 0 if reached is None else reached.peak_vram_bytes
            reported = _reserved(progress.report or progress.before)
            ours = reported + (0 if reached is None else reached.overhead_bytes)
            if progress.settled:
                self._others_bytes = others = used - ours
            else:
                others = max(self._others_bytes, used - max(ours, planned))
        others = min(max(others, 0), used)
        return Use(total_bytes=device.total_bytes, ours_bytes=used - others, others_bytes=others)


def _reserved(report: EngineMemory | None) -> int:
    return 0 if report is None else report.device_reserved_bytes or 0
