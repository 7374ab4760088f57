"""Which preset suits a GPU and a model, of those that nobody chose by hand."""

from collections.abc import Iterable

from app.core.preset import Preset

CLASS_TOLERANCE = 0.03
"""A card with this share less than its class is of the class: drivers keep a little back."""
SAME_GPU_TOLERANCE = 0.05
"""Cards of one name are sold with different memory: RTX 3060 with 8 and 12 GB."""


def suits(preset: Preset, *, gpu_name: str | None, vram_bytes: int | None) -> bool:
    """Whether a preset bound to a GPU by name is meant for this one; None is the CPU."""
    if gpu_name is None or preset.gpu_name is None:
        return False
    if preset.gpu_name.casefold() != gpu_name.casefold():
        return False
    if preset.vram_bytes is None or vram_bytes is None:
        return True
    return abs(preset.vram_bytes - vram_bytes) <= SAME_GPU_TOLERANCE * vram_bytes


def suits_model(preset: Preset, model: str | None) -> bool:
    """Whether a preset is for this model, or for all."""
    return preset.model is None or preset.model == model


def best_bound(
    presets: Iterable[Preset], *, gpu_name: str | None, vram_bytes: int | None, model: str | None
) -> Preset | None:
    """The preset bound to this GPU: one for the model before one for all, then by name."""
    suitable = [
        preset
        for preset in presets
        if suits(preset, gpu_name=gpu_name, vram_bytes=vram_bytes) and suits_model(preset, model)
    ]
    return min(suitable, key=lambda preset: (preset.model is None, preset.name), default=None)


def best_class(
    presets: Iterable[Preset], *, vram_bytes: int | None, model: str | None
) -> Preset | None:
    """The preset of the largest class of cards that this card reaches; else of the smallest."""
    classes = [
        (preset.vram_bytes, preset)
        for preset in presets
        if preset.gpu_name is None and preset.vram_bytes is not None and suits_model(preset, model)
    ]
    if vram_bytes is None or not classes:
        return None
    reached = [entry for entry in classes if entry[0] * (1 - CLASS_TOLERANCE) <= vram_bytes]
    found = max(reached, key=lambda entry: entry[0]) if reached else min(classes, key=_size)
    return found[1]


def _size(entry: tuple[int, Preset]) -> int:
    return entry[0]
