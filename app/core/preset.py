"""A preset: how one GPU is used, decided once and kept under a name."""

from dataclasses import dataclass, field

from app.core.policy import MemoryPolicy

PRESET_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetLimits:
    """The most a request may ask for under a preset; None is no limit.

    Attributes:
        max_side_px: Of the longer side.
        max_pixels: Of width times height.
        max_images: At once; the planner splits or defers what is above.
    """

    max_side_px: int | None = None
    max_pixels: int | None = None
    max_images: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Memory policy, limits and step defaults, bound to a GPU and perhaps to a model.

    Attributes:
        schema_version: Of the file it came from; this version's for a new one.
        name: For people, and the stem of its file.
        gpu_name: It is meant for, as the driver calls it; None is any GPU of the size.
        vram_bytes: Memory of the GPU it is meant for; None is any size.
        model: Known model name or folder it is meant for; None is every model.
        policy: How a run may use memory.
        limits: The most a request may ask for.
        steps: Denoising steps to begin with; None is the model's default.
        guidance: Guidance scale to begin with; None is the model's default.
    """

    schema_version: int = PRESET_SCHEMA_VERSION
    name: str
    gpu_name: str | None = None
    vram_bytes: int | None = None
    model: str | None = None
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    limits: PresetLimits = field(default_factory=PresetLimits)
    steps: int | None = None
    guidance: float | None = None
