"""The running job's own notes, changed by events."""

from dataclasses import dataclass, field

from app.core.bytes_left import BytesLeft
from app.core.events import Converting, Loading, WaitedForMemory, WaitingForMemory
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
        loading: How far weights are read; None while none are.
        converting: How far weights are quantized; None while none are.
        waiting: For memory, as it was told last; None while it does not wait.
        bytes_left: How long what is read or quantized still takes.
    """

    job: Job
    began_s: float
    told_s: float
    phase: Phase | None = None
    note: str = ""
    step: int = 0
    cancelling: bool = False
    loading: Loading | None = None
    converting: Converting | None = None
    waiting: WaitingForMemory | None = None
    bytes_left: BytesLeft = field(default_factory=BytesLeft)

    def begin_phase(self, phase: Phase | None) -> None:
        """Another phase, or none yet: nothing is read or quantized in it so far."""
        self.phase, self.loading, self.converting = phase, None, None
        self.waiting = None

    def waiting_left_s(self, now_s: float) -> float:
        """Seconds until it waits no longer."""
        if self.waiting is None:
            return 0.0
        return max(0.0, self.waiting.left_s - (now_s - self.told_s))

    def take(
        self, event: Loading | Converting | WaitingForMemory | WaitedForMemory, now_s: float
    ) -> None:
        """What holds the picture up goes on, or is over."""
        if isinstance(event, Loading | Converting):
            self._note_bytes(event, now_s)
            return
        self.waiting = event if isinstance(event, WaitingForMemory) else None
        # What was left before it is left after it.
        self.told_s = now_s

    def _note_bytes(self, event: Loading | Converting, now_s: float) -> None:
        what = event.component if isinstance(event, Converting) else ""
        self.bytes_left.note(what, event.done_bytes, event.total_bytes, now_s)
        # What is done has nothing more to say; and only one of them goes on at once.
        going_on = event if event.done_bytes < event.total_bytes else None
        self.loading = going_on if isinstance(going_on, Loading) else None
        self.converting = going_on if isinstance(going_on, Converting) else None

    def bytes_left_s(self, now_s: float) -> float | None:
        """Seconds until what is being read or quantized is done; None where that is not known."""
        if self.loading is None and self.converting is None:
            return None
        return self.bytes_left.remaining_s(now_s)
