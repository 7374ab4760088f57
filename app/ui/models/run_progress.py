"""How far the running job is, as plain data for whoever shows it."""

from dataclasses import dataclass

from app.core.events import Converting, Loading, WaitingForMemory
from app.core.jobs import Job, Phase
from app.core.streaming import Streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far the running job is.

    Attributes:
        job: The running job.
        phase: It is in; None before the first.
        note: What is special about the phase, or "".
        step: Steps done, from 0.
        steps: In all.
        seconds_per_step: None until it can be told.
        remaining_s: Until the picture is there; None until it can be told.
        elapsed_s: Since the job began.
        cancelling: The user has asked to stop it.
        streaming: Weights that came to the device in the newest steps; None when none did.
        loading: How far weights are read; None while none are.
        converting: How far weights are quantized; None while none are.
        waiting: For memory that other programs hold; None while it does not wait.
        waiting_left_s: Until it waits no longer.
        bytes_left_s: Until what is read or quantized is done; None until it can be told.
    """

    job: Job
    phase: Phase | None
    note: str
    step: int
    steps: int
    seconds_per_step: float | None
    remaining_s: float | None
    elapsed_s: float
    cancelling: bool
    streaming: Streaming | None = None
    loading: Loading | None = None
    converting: Converting | None = None
    waiting: WaitingForMemory | None = None
    waiting_left_s: float = 0.0
    bytes_left_s: float | None = None
