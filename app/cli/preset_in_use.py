"""The preset that `generate` and `plan` go by, and what was typed on top of it."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from app.cli.argument_types import precisions
from app.core.paths import app_paths
from app.core.policy import MemoryMode, MemoryPolicy, Precision
from app.core.preset import Preset
from app.core.preset_folder import PresetEntry
from app.core.preset_store import PresetStore
from app.core.units import GIB
from app.engine.catalog import KNOWN_MODELS

NO_PRESET = "none"
"""Typed as the name of a preset: what holds without one."""


class TypedMemory(Protocol):
    """What both verbs may be told of memory; None leaves it to the preset.

    Attributes:
        strict: Never fewer images, never a smaller size.
        memory: How eagerly weights stay on the GPU.
        precision: Of text encoder and transformer.
        headroom_gib: Left free, of the GPU or, on the CPU, of the RAM.
    """

    @property
    def strict(self) -> bool: ...
    @property
    def memory(self) -> MemoryMode | None: ...
    @property
    def precision(self) -> Precision | None: ...
    @property
    def headroom_gib(self) -> float | None: ...


def preset_in_use(
    typed: str | None, *, gpu_name: str | None, vram_bytes: int | None, model: str
) -> PresetEntry | None:
    """The named preset, else the one for a GPU and model; None for none.

    Args:
        typed: Name of a preset, `NO_PRESET`, or None.
        gpu_name: As the driver calls it; None is the CPU.
        vram_bytes: Memory of the GPU.
        model: As presets name it; see `model_key`.

    Raises:
        RequestError: There is no preset of that name.
    """
    if typed is not None and typed.strip().casefold() == NO_PRESET:
        return None
    store = PresetStore(app_paths().presets_folder)
    if typed is not None:
        return store.find(typed)
    return store.best_for(gpu_name, vram_bytes, model)


def preset_of(entry: PresetEntry | None) -> Preset:
    """What an entry says, or what holds without a preset."""
    return Preset(name=NO_PRESET) if entry is None else entry.preset


def model_key(typed: str, folder: Path | None) -> str:
    """A model as presets name it: a known name, or its folder."""
    name = typed.strip().lower()
    if folder is None or any(known.name == name for known in KNOWN_MODELS):
        return name
    return str(folder)


def with_typed(policy: MemoryPolicy, typed: TypedMemory, *, on_cpu: bool) -> MemoryPolicy:
    """A preset's policy with what was typed in place of what it says."""
    policy = replace(
        policy,
        strict=typed.strict or policy.strict,
        mode=typed.memory or policy.mode,
        precisions=precisions(typed.precision, policy.precisions),
    )
    if typed.headroom_gib is None:
        return policy
    headroom = round(typed.headroom_gib * GIB)
    if on_cpu:
        return replace(policy, ram_headroom_bytes=headroom)
    return replace(policy, headroom_bytes=headroom)
