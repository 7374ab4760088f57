"""What a run will do with memory and time: made by the planner, read by everyone else.

The window explains it, the graph draws it, the engine carries it out, and the report after the run
compares it with what happened.
"""

import enum
from dataclasses import dataclass

from app.core.jobs import Phase
from app.core.policy import Attention, Precision

DECODE_TILES_PX = (768, 512, 256)
"""Sides of decode tiles in image pixels, from the gentlest to the smallest."""


class Verdict(enum.Enum):
    """Whether a request fits."""

    FITS = "fits"
    """As asked, with the weights of each phase on the device."""
    STREAMS = "fits with streaming"
    """As asked, with weights coming in while it runs; it may take longer."""
    SMALLER = "fits smaller"
    """Only with fewer images at once or a smaller size than asked."""
    DOES_NOT_FIT = "does not fit"
    """Not at all."""


class Rung(enum.Enum):
    """What gives way when memory is short, the gentlest first."""

    STREAM = "stream"
    """Weights leave the device when they are not needed; the picture is the same."""
    TILE = "tile"
    """Decode one image at a time, then in tiles, in the end on the CPU: no visible difference."""
    SPLIT = "split"
    """The batch runs in parts, one after the other; the pictures are the same."""
    FEWER = "fewer"
    """Fewer images now; the rest is queued as a job of its own."""
    SMALLER = "smaller"
    """A smaller size of the same ratio."""


PICTURE_KEEPING = frozenset({Rung.STREAM, Rung.TILE, Rung.SPLIT})
"""Rungs that give the picture that was asked for; strict mode allows only these."""


class Placement(enum.Enum):
    """Where a component's weights are, from the fastest to the one that needs least memory."""

    RESIDENT = "resident"
    """On the device from the first phase to the last, and for the next job."""
    TURNS = "turns"
    """On the device in its own phase only."""
    STREAMED = "streamed"
    """Block by block: some blocks stay in its phase, the others come in as they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentPlan:
    """How one component is kept.

    Attributes:
        name: "text_encoder", "transformer" or "autoencoder".
        precision: Of its weights; never AUTO. Of GGUF files, what they are computed like.
        placement: Where the weights are.
        weights_bytes: All its weights.
        device_bytes: Of its weights at most on the device at once.
        streamed_blocks: Indices of blocks that come in when they are needed; empty unless STREAMED.
        slots_bytes: Of `device_bytes`, the memory on the device that streamed blocks pass through.
        file_blocks: Of the streamed blocks, those that are read from the disk each time, because
            the computer's RAM cannot hold them.
        stored_as: How others have quantized it, if so: "fp8", "gguf Q8_0"; it runs so.
    """

    name: str
    precision: Precision
    placement: Placement
    weights_bytes: int
    device_bytes: int
    streamed_blocks: tuple[int, ...] = ()
    slots_bytes: int = 0
    file_blocks: tuple[int, ...] = ()
    stored_as: str = ""

    @property
    def runs_as(self) -> str:
        """The precision that really runs, in a word."""
        return self.stored_as or self.precision.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """What one phase is expected to need.

    Attributes:
        phase: Which.
        weights_bytes: Weights on the device at the phase's peak.
        working_bytes: The peak above those weights.
        overhead_bytes: What is there besides: context, workspace, the allocator's reserve.
        uncertainty_bytes: The peak may be off by this much.
        seconds: Expected.
        seconds_low: Lower end of the range that the history supports.
        seconds_high: Upper end.
        waiting_seconds: Of `seconds`, computing waits so long for weights that come in while it
            runs, by the timeline, from the second pass on: what the first waits for is loading.
            See `app.core.streaming.StreamedPhase`, which compares it with what was measured.
    """

    phase: Phase
    weights_bytes: int
    working_bytes: int
    overhead_bytes: int = 0
    uncertainty_bytes: int = 0
    seconds: float = 0.0
    seconds_low: float = 0.0
    seconds_high: float = 0.0
    waiting_seconds: float = 0.0

    @property
    def peak_vram_bytes(self) -> int:
        """Expected peak on the device, of us, without the uncertainty."""
        return self.weights_bytes + self.working_bytes + self.overhead_bytes

    @property
    def needed_bytes(self) -> int:
        """That peak with the uncertainty: what must be free for the phase."""
        return self.peak_vram_bytes + self.uncertainty_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """A rung that was taken: what gave way, from what to what, and why, in words for people."""

    rung: Rung
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationPlan:
    """How a request will be run on a device.

    Attributes:
        verdict: Whether it fits.
        model: Name or label of the model.
        width_px: Of the images that will be made.
        height_px: Of the images that will be made.
        images: That will be made now.
        images_later: That are put off as a job of their own.
        batch: Images that are denoised at once; the others follow in parts of this size.
        decode_batch: Images that are decoded at once.
        tile_px: Side of decode tiles in image pixels; None decodes whole.
        decode_on_cpu: Whether the autoencoder runs on the CPU.
        components: Text encoder, transformer, autoencoder.
        phases: Load, encode, denoise, decode, save.
        changes: Rungs that were taken, in order.
        reasons: Sentences for people, the most important first.
        budget_bytes: What may be used of the device: free, less headroom, capped by the limit.
        total_bytes: Memory of the device.
        ram_peak_bytes: Expected use of the computer's RAM.
        ram_budget_bytes: What may be used of it.
        missing_bytes: How much even the smallest way is too large; 0 unless it does not fit.
        measured_runs: How many runs here the corrections rest on.
        attention: What computes attention; never AUTO in a plan of the engine.
    """

    verdict: Verdict
    model: str
    width_px: int
    height_px: int
    images: int
    images_later: int = 0
    batch: int
    decode_batch: int
    tile_px: int | None = None
    decode_on_cpu: bool = False
    components: tuple[ComponentPlan, ...]
    phases: tuple[PhasePlan, ...]
    changes: tuple[PlanChange, ...] = ()
    reasons: tuple[str, ...] = ()
    budget_bytes: int
    total_bytes: int
    ram_peak_bytes: int = 0
    ram_budget_bytes: int = 0
    missing_bytes: int = 0
    measured_runs: int = 0
    attention: Attention = Attention.AUTO

    @property
    def peak_vram_bytes(self) -> int:
        """The highest expected peak of all phases."""
        return max((phase.peak_vram_bytes for phase in self.phases), default=0)

    @property
    def needed_bytes(self) -> int:
        """The most that a phase needs: this is held against the budget."""
        return max((phase.needed_bytes for phase in self.phases), default=0)

    @property
    def seconds(self) -> float:
        """Expected time of the whole run."""
        return sum(phase.seconds for phase in self.phases)

    def phase(self, phase: Phase) -> PhasePlan:
        """The plan of one phase.

        Raises:
            KeyError: The plan has no such phase.
        """
        for found in self.phases:
            if found.phase is phase:
                return found
        raise KeyError(phase)

    def component(self, name: str) -> ComponentPlan:
        """The plan of one component.

        Raises:
            KeyError: The plan has no such component.
        """
        for found in self.components:
            if found.name == name:
                return found
        raise KeyError(name)
