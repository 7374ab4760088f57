"""From arguments to the preset they describe; everything wrong gets a sentence."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from app.cli.gpu_here import GpuHere
from app.cli.presets_arguments import TILE_AUTO, TILE_WHOLE, SaveOptions
from app.core.errors import RequestError
from app.core.policy import MemoryPolicy, Precisions
from app.core.preset import Preset, PresetLimits
from app.core.preset_checks import checked_name
from app.core.preset_file import preset_text, read_preset
from app.core.units import GIB
from app.engine.catalog import KNOWN_MODELS

_Value = TypeVar("_Value")


def preset_to_save(
    name: str, options: SaveOptions, base: Preset | None, gpu: GpuHere | None
) -> Preset:
    """The preset in use, or another, with the changes that were typed.

    Args:
        name: Of the new preset.
        options: What was typed.
        base: What it begins with; None is what holds without a preset.
        gpu: It is for; None is the processor.

    Raises:
        RequestError: A value cannot be used; the sentence says which.
    """
    base = base or Preset(name=name)
    bound = None if options.any_gpu else gpu
    preset = Preset(
        name=checked_name(name),
        gpu_name=None if bound is None else bound.snapshot.name,
        vram_bytes=None if bound is None else bound.snapshot.total_bytes,
        model=base.model if options.model is None else _model(options.model),
        policy=_policy(options, base.policy),
        limits=PresetLimits(
            max_side_px=_limit(options.max_side, base.limits.max_side_px),
            max_pixels=_limit(options.max_pixels, base.limits.max_pixels),
            max_images=_limit(options.max_images, base.limits.max_images),
        ),
        steps=_limit(options.steps, base.steps),
        guidance=_else(options.guidance, base.guidance),
    )
    # One rule for what is typed here and what is written into a file.
    problems = read_preset(preset_text(preset).encode(), name=preset.name).problems
    if problems:
        sentences = [f"{problem.partition('; it is taken')[0]}." for problem in problems]
        raise RequestError(" ".join(sentences), code="preset.value")
    return preset


def _policy(options: SaveOptions, base: MemoryPolicy) -> MemoryPolicy:
    kept = base.precisions
    limit = base.limit_bytes
    if options.limit_gib is not None:
        limit = _bytes(options.limit_gib, 0) or None
    return replace(
        base,
        headroom_bytes=_bytes(options.headroom_gib, base.headroom_bytes),
        limit_bytes=limit,
        ram_headroom_bytes=_bytes(options.ram_headroom_gib, base.ram_headroom_bytes),
        mode=_else(options.mode, base.mode),
        strict=_else(options.strict, base.strict),
        upscale_back=_else(options.upscale_back, base.upscale_back),
        attention=_else(options.attention, base.attention),
        compile=_else(options.compile, base.compile),
        tile_px=base.tile_px if options.tile is None else _tile_px(options.tile),
        precisions=Precisions(
            text_encoder=_else(options.text_encoder, kept.text_encoder),
            transformer=_else(options.transformer, kept.transformer),
            autoencoder=_else(options.autoencoder, kept.autoencoder),
        ),
    )


def _tile_px(typed: str) -> int | None:
    word = typed.strip().lower()
    if word == TILE_AUTO:
        return None
    if word == TILE_WHOLE:
        return 0
    if word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 0:
        return int(word)
    raise RequestError(
        f"“{typed[:40]}” is no decode tile: give auto, whole or a side in pixels.",
        code="preset.value",
    )


def _model(typed: str) -> str:
    name = typed.strip().lower()
    if name in {known.name for known in KNOWN_MODELS}:
        return name
    folder = Path(os.path.expanduser(typed)).absolute()
    if typed.strip() and "\0" not in typed and os.path.isdir(folder):
        return str(folder)
    raise RequestError(
        f"“{typed[:60]}” is no model: give a name that “headroom models” lists, or a folder.",
        code="preset.model",
    )


def _bytes(gib: float | None, otherwise: int) -> int:
    return otherwise if gib is None else round(gib * GIB)


def _limit(typed: int | None, otherwise: int | None) -> int | None:
    """0 takes a limit away."""
    return otherwise if typed is None else typed or None


def _else(typed: _Value | None, otherwise: _Value) -> _Value:
    return otherwise if typed is None else typed
