"""Presets as a line for people and as JSON for programs."""

from app.core.preset import Preset
from app.core.preset_folder import PresetEntry
from app.core.units import GIB


def entry_as_line(entry: PresetEntry, *, in_use: bool) -> str:
    """One line of the list."""
    mark = "*" if in_use else " "
    kind = "built-in" if entry.builtin else "yours"
    return f"{mark} {entry.name:24}{kind:10}{meant_for(entry.preset)}\n"


def meant_for(preset: Preset) -> str:
    """What a preset is for, in words."""
    # As on the box, like the presets' names: "12 GB", not "12.0 GB".
    size = None if preset.vram_bytes is None else f"{preset.vram_bytes / GIB:.3g} GB"
    if preset.gpu_name is not None:
        what = preset.gpu_name if size is None else f"{preset.gpu_name}, {size}"
    else:
        what = "any device" if size is None else f"GPUs from {size}"
    return what if preset.model is None else f"{what}, {preset.model}"


def entry_as_json(entry: PresetEntry) -> dict[str, object]:
    """Everything a preset says, in base units; None is "no limit", "any" or "the planner's"."""
    preset, policy, limits = entry.preset, entry.preset.policy, entry.preset.limits
    return {
        "name": preset.name,
        "builtin": entry.builtin,
        "path": str(entry.path),
        "problems": list(entry.problems),
        "schema_version": preset.schema_version,
        "gpu_name": preset.gpu_name,
        "vram_bytes": preset.vram_bytes,
        "model": preset.model,
        "mode": policy.mode.value,
        "headroom_bytes": policy.headroom_bytes,
        "limit_bytes": policy.limit_bytes,
        "ram_headroom_bytes": policy.ram_headroom_bytes,
        "tile_px": policy.tile_px,
        "strict": policy.strict,
        "upscale_back": policy.upscale_back,
        "precision": {
            "text_encoder": policy.precisions.text_encoder.value,
            "transformer": policy.precisions.transformer.value,
            "autoencoder": policy.precisions.autoencoder.value,
        },
        "max_side_px": limits.max_side_px,
        "max_pixels": limits.max_pixels,
        "max_images": limits.max_images,
        "attention": policy.attention.value,
        "compile": policy.compile,
        "steps": preset.steps,
        "guidance": preset.guidance,
    }


def written_as_json(action: str, entry: PresetEntry) -> dict[str, object]:
    """What was done with a preset."""
    return {
        "event": "preset",
        "action": action,
        "name": entry.name,
        "path": str(entry.path),
        "problems": list(entry.problems),
    }
