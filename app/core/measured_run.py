"""What a run really needed, and what it was measured on."""

from dataclasses import dataclass

from app.core.jobs import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationKey:
    """What a measurement is true for.

    Attributes:
        gpu_name: As in `DeviceProfile.name`.
        driver: With its version; "" where it is not known, which finds any.
        torch_version: Of the engine.
    """

    gpu_name: str
    driver: str
    torch_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPhase:
    """What a phase really needed.

    Attributes:
        seconds: It took; None where that says nothing, as when all was cached.
        peak_bytes: Held by tensors on the device at most, in this phase; by the whole process
            where the device is the CPU; None where that was not measured.
    """

    seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """What a run really needed; only phases that ran as planned belong into it.

    Attributes:
        phases: By phase.
        of_process: Whether the peaks are of the whole process, as on the CPU.
        idle_bytes: Held by that process before it had any model; 0 where the peaks are of tensors.
    """

    phases: dict[Phase, MeasuredPhase]
    of_process: bool = False
    idle_bytes: int = 0
