"""What the engine and the conductor tell about a run: frozen facts, in the past tense."""

import enum
from dataclasses import dataclass

from app.core.bench_result import BenchResult
from app.core.errors import ErrorInfo
from app.core.jobs import Job, Phase
from app.core.machine_speeds import MachineSpeeds
from app.core.plan import GenerationPlan, Rung
from app.core.policy import Precision
from app.core.run_report import RunReport
from app.core.streaming import Streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Memory of the engine process at one moment.

    Attributes:
        device_allocated_bytes: Held by tensors on the device; None on the CPU.
        device_reserved_bytes: Held by torch's allocator on the device; None on the CPU.
        device_peak_bytes: Largest allocation on the device in this job so far; None on the CPU.
        host_rss_bytes: Resident memory of the process.
        host_peak_rss_bytes: Largest resident memory seen in this job so far.
        resident_bytes: Of weights that stay on the device for now; slots are not among them.
        slots_bytes: Of memory on the device that streamed weights pass through.
    """

    device_allocated_bytes: int | None
    device_reserved_bytes: int | None
    device_peak_bytes: int | None
    host_rss_bytes: int
    host_peak_rss_bytes: int
    resident_bytes: int = 0
    slots_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A small picture of intermediate latents: tightly packed RGB rows, 8 bits a channel."""

    width_px: int
    height_px: int
    rgb: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReady:
    """The engine process is up: it has a device and waits for jobs.

    Attributes:
        pid: Of the process.
        device: As torch numbers it, such as "cuda:0".
        device_name: As torch calls it.
        torch_version: With its label.
        diffusers_version: Of the library.
        pci_address: Of the device, such as "0000:01:00.0"; "" where torch does not tell it.
    """

    pid: int
    device: str
    device_name: str
    torch_version: str
    diffusers_version: str
    pci_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase of a job began.

    Attributes:
        job_id: Of the job.
        phase: Which.
        note: What is special: "cached", "already loaded", or "".
        parts_later: Of a batch that is made in parts: how many are denoised after the present one.
    """

    job_id: str
    phase: Phase
    note: str = ""
    parts_later: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """A phase of a job ended well."""

    job_id: str
    phase: Phase
    seconds: float
    memory: EngineMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Weights are being read into RAM; told now and then, and at the end when told before.

    Attributes:
        job_id: Of the job that needs them.
        done_bytes: That are there.
        total_bytes: That will be.
    """

    job_id: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Converting:
    """Weights are being quantized, which is done once; told now and then, and at the end.

    Attributes:
        job_id: Of the job that needs them.
        component: "text_encoder" or "transformer".
        precision: They are converted to.
        done_bytes: That are written.
        total_bytes: That will be.
    """

    job_id: str
    component: str
    precision: Precision
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One denoising step is done.

    Attributes:
        job_id: Of the job.
        step: From 1.
        steps: In all.
        seconds: This step took.
        memory: After the step.
        preview: Of the first image of the batch, or None when previews are off.
        streaming: Of weights during the step, or None when none were streamed.
    """

    job_id: str
    step: int
    steps: int
    seconds: float
    memory: EngineMemory
    preview: Preview | None = None
    streaming: Streaming | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDone:
    """An image is finished; it is on disk, or here when it could not be written.

    Attributes:
        job_id: Of the job.
        index: In the batch, from 0.
        seed: It was made with.
        path: Absolute path of the PNG file, or None when saving failed.
        problem: Why it could not be saved, or None.
        png: The whole PNG file's bytes when saving failed, else None: nothing made is lost.
    """

    job_id: str
    index: int
    seed: int
    path: str | None
    problem: ErrorInfo | None = None
    png: bytes | None = None


CONVERTING_CODE = "load.converting"
"""Of the notice that weights are being converted, which is true for a while only."""
FORESEEN_CODE = "memory.foreseen"
"""Of the notice that memory was about to run out, which is old news once it did not."""
REPEATED_CODE = "memory.repeated"
"""Of the notice that something is tried again, which is old news once it went well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something worth a sentence that is no failure, such as a prompt that was cut."""

    job_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """How the engine is about to run a job, or goes on with it after memory changed."""

    job_id: str
    plan: GenerationPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Downshifted:
    """A rung was taken during a run, because memory ran short or was about to.

    Attributes:
        job_id: Of the job.
        phase: In which it was taken.
        step: Denoising steps that were done by then.
        rung: What gave way.
        before: How it was, for people.
        after: How it is now, for people.
        reason: One sentence.
        foreseen: Whether it was predicted; else memory had run out.
    """

    job_id: str
    phase: Phase
    step: int
    rung: Rung
    before: str
    after: str
    reason: str
    foreseen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForMemory:
    """The run holds still, with all that is done kept, until others give memory back.

    Told when it begins, and every few seconds from then on.

    Attributes:
        job_id: Of the job.
        phase: In which; `LOAD` also before the first.
        missing_bytes: That must become free on the device for the run to go on.
        others_bytes: That other programs hold of it now.
        left_s: Until it is given up.
    """

    job_id: str
    phase: Phase
    missing_bytes: int
    others_bytes: int
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedForMemory:
    """The waiting is over: `enough` is free after these seconds, or still is not."""

    job_id: str
    seconds: float
    enough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesDeferred:
    """The job makes fewer images now; those from `first_index` on are to be queued anew."""

    job_id: str
    first_index: int
    images: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    """The job goes on from kept latents: `step` of `steps` denoising steps were done before."""

    job_id: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """All images of a job are made; `report` says how, and how well it was foreseen."""

    job_id: str
    seconds: float
    memory: EngineMemory
    report: RunReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled:
    """The job was stopped because the user asked."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """The job cannot be finished."""

    job_id: str
    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationDone:
    """The machine was measured, or `error` says why not; belongs to no job."""

    speeds: MachineSpeeds | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchDone:
    """The short bench is done, or `error` says why not; belongs to no job."""

    result: BenchResult | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLog:
    """A log record of the engine process."""

    level: int
    logger: str
    message: str


JobEvent = (
    PhaseStarted
    | PhaseFinished
    | Loading
    | Converting
    | StepDone
    | ImageDone
    | Notice
    | PlanMade
    | Downshifted
    | WaitingForMemory
    | WaitedForMemory
    | ImagesDeferred
    | RunResumed
    | JobFinished
    | JobCancelled
    | JobFailed
)
"""Everything the engine tells about one job."""
EngineEvent = EngineReady | JobEvent | CalibrationDone | BenchDone | EngineLog


class EngineState(enum.Enum):
    """Life of the engine process as the conductor sees it."""

    STOPPED = "stopped"
    """No process; one is started with the next job."""
    STARTING = "starting"
    """The process is up but has not said it is ready."""
    READY = "ready"
    """Ready and idle."""
    BUSY = "busy"
    """Working on a job."""
    RESTARTING = "restarting"
    """It died; a new one is being started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStateChanged:
    """The engine process began, was ready, died or ended; `reason` is one sentence, or ""."""

    state: EngineState
    pid: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChanged:
    """The jobs as they are now: running first, then queued in order, then ended, newest first.

    While the queue is paused no further job is started; the running one goes on.
    """

    jobs: tuple[Job, ...]
    paused: bool = False


ConductorEvent = EngineEvent | EngineStateChanged | QueueChanged
