"""The running job's own notes, changed by events."""

from dataclasses import dataclass

from app.core.events import Converting
from app.core.jobs import Job, Phase


@dataclass(slots=True, kw_only=True)
class RunningJob:
    """What EngineModel knows about the job that runs.

    Attributes:
        job: It.
        began_s: When it began, on the monotonic clock.
        told_s: When the last event came.
        phase: It is in; None before the first.
        note: What is special about the phase, or "".
        step: Steps done.
        cancelling: The user has asked to stop it.
        converting: How far weights are quantized; None while none are.
    """

    job: Job
    began_s: float
    told_s: float
    phase: Phase | None = None
    note: str = ""
    step: int = 0
    cancelling: bool = False
    converting: Converting | None = None
