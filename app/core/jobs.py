"""A job: one request on its way through the queue, and the states it may be in."""

import enum
from dataclasses import dataclass, field

from app.core.errors import LACK_OF_MEMORY_CODES, ErrorInfo
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.request import GenerationRequest


class Phase(enum.Enum):
    """Parts of a run, in order."""

    LOAD = "load"
    """Read weights and move them to the device."""
    ENCODE = "encode"
    """Turn the prompt into embeddings with the text encoder."""
    DENOISE = "denoise"
    """Run the transformer once (or twice) per step."""
    DECODE = "decode"
    """Turn latents into pixels with the autoencoder."""
    SAVE = "save"
    """Write PNG files."""


class JobState(enum.Enum):
    """Where a job is."""

    QUEUED = "queued"
    """Waits for its turn; survives a restart of the app."""
    RUNNING = "running"
    """The engine works on it; after a restart it is queued again."""
    FINISHED = "finished"
    """All images are made."""
    CANCELLED = "cancelled"
    """The user took it back."""
    FAILED = "failed"
    """It cannot be finished; `Job.error` says why."""


LEGAL_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset(
        # Back to queued: the engine died, or the app was closed, and the job will run again.
        {JobState.QUEUED, JobState.FINISHED, JobState.CANCELLED, JobState.FAILED}
    ),
    JobState.FINISHED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.FAILED: frozenset(),
}


DEFAULT_WAIT_S = 60.0
"""How long a job waits for the device's memory that other programs hold, unless it is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTarget:
    """Where a job's images go.

    Attributes:
        folder: Absolute path of the folder; made when missing.
        name_template: File name without suffix; see `app.core.naming`.
        file: Absolute path of the exact file (first image) instead of folder and template, or None.
        metadata: Whether settings are written into the PNG.
        first_index: Images that come before in the same series, for the numbers in names.
    """

    folder: str
    name_template: str = "{date}-{time}-{seed}"
    file: str | None = None
    metadata: bool = True
    first_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One queued request.

    Attributes:
        id: Unique, stable over restarts.
        request: What to make.
        model_folder: Absolute path of the model `request.model` stands for.
        output: Where images go.
        policy: How the run may use memory.
        limits: The most that is made at once; what is above runs in parts.
        wait_s: How long it may hold still for memory that other programs hold, before anything is
            given up for it; 0 is not at all.
        state: Where the job is.
        previews: Whether the engine sends a preview at each step.
        saved: Indices of images that are already saved; not saved again when the job reruns.
        attempts: How often the engine has died on it.
        error: Why it failed; None otherwise.
    """

    id: str
    request: GenerationRequest
    model_folder: str
    output: OutputTarget
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    limits: PresetLimits = field(default_factory=PresetLimits)
    wait_s: float = 0.0
    state: JobState = JobState.QUEUED
    previews: bool = True
    saved: tuple[int, ...] = ()
    attempts: int = 0
    error: ErrorInfo | None = None

    @property
    def lacked_memory(self) -> bool:
        """Whether it failed only for lack of memory: tried again, it goes on where it was."""
        return self.error is not None and self.error.code in LACK_OF_MEMORY_CODES

    @property
    def may_go_on(self) -> bool:
        """Whether what is kept of it may be needed still."""
        return self.state in (JobState.QUEUED, JobState.RUNNING) or self.lacked_memory
