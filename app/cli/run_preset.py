"""The preset a run from the command line goes by, and what was typed on top of it."""

from dataclasses import dataclass, replace
from pathlib import Path

from app.cli.argument_types import precisions
from app.cli.arguments import GenerateArguments
from app.cli.gpu_here import GpuHere, gpu_here
from app.core.errors import SetupError
from app.core.paths import app_paths
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.preset_store import PresetStore
from app.core.units import GIB
from app.engine.catalog import KNOWN_MODELS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChoices:
    """What holds for a run beside its request.

    Attributes:
        arguments: With the preset's steps and guidance where none were typed.
        policy: How memory may be used.
        limits: The most that is made at once.
        problems: Sentences about the preset's file.
    """

    arguments: GenerateArguments
    policy: MemoryPolicy
    limits: PresetLimits
    problems: tuple[str, ...] = ()


def run_choices(arguments: GenerateArguments, *, model_folder: Path, device: str) -> RunChoices:
    """The named preset, else the one for this GPU and model, with what was typed.

    Args:
        arguments: What was typed.
        model_folder: Of the model.
        device: The run is for, as in the settings.

    Raises:
        RequestError: There is no such preset.
    """
    gpu = _gpu(device)
    store = PresetStore(app_paths().presets_folder)
    if arguments.preset is not None:
        entry = store.find(arguments.preset)
    else:
        entry = store.best_for(
            None if gpu is None else gpu.snapshot.name,
            None if gpu is None else gpu.snapshot.total_bytes,
            _model_key(arguments.model, model_folder),
        )
    if entry is None:
        policy = _with_typed(MemoryPolicy(), arguments, on_cpu=gpu is None)
        return RunChoices(arguments=arguments, policy=policy, limits=PresetLimits())
    preset = entry.preset
    return RunChoices(
        arguments=replace(
            arguments,
            steps=preset.steps if arguments.steps is None else arguments.steps,
            guidance=preset.guidance if arguments.guidance is None else arguments.guidance,
        ),
        policy=_with_typed(preset.policy, arguments, on_cpu=gpu is None),
        limits=preset.limits,
        problems=entry.problems,
    )


def _gpu(device: str) -> GpuHere | None:
    try:
        return gpu_here(device)
    except SetupError:
        return None  # The engine says it better, when it is there to be asked.


def _model_key(typed: str, folder: Path) -> str:
    """The model as presets name it."""
    name = typed.strip().lower()
    return name if any(known.name == name for known in KNOWN_MODELS) else str(folder)


def _with_typed(
    policy: MemoryPolicy, arguments: GenerateArguments, *, on_cpu: bool
) -> MemoryPolicy:
    if arguments.strict:
        policy = replace(policy, strict=True)
    if arguments.memory is not None:
        policy = replace(policy, mode=arguments.memory)
    policy = replace(policy, precisions=precisions(arguments.precision, policy.precisions))
    if arguments.attention is not None:
        policy = replace(policy, attention=arguments.attention)
    if arguments.headroom_gib is None:
        return policy
    headroom = round(arguments.headroom_gib * GIB)
    if on_cpu:
        return replace(policy, ram_headroom_bytes=headroom)
    return replace(policy, headroom_bytes=headroom)
