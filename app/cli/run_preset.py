"""The preset a run from the command line goes by, and what was typed on top of it."""

from dataclasses import dataclass, replace
from pathlib import Path

from app.cli.arguments import GenerateArguments
from app.cli.gpu_here import GpuHere, gpu_here
from app.cli.preset_in_use import model_key, preset_in_use, preset_of, with_typed
from app.core.errors import SetupError
from app.core.jobs import DEFAULT_WAIT_S
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChoices:
    """What holds for a run beside its request.

    Attributes:
        arguments: With the preset's steps and guidance where none were typed.
        policy: How memory may be used.
        limits: The most that is made at once.
        wait_s: How long it may wait for the GPU's memory that other programs hold.
        problems: Sentences about the preset's file.
    """

    arguments: GenerateArguments
    policy: MemoryPolicy
    limits: PresetLimits
    wait_s: float
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
    entry = preset_in_use(
        arguments.preset,
        gpu_name=None if gpu is None else gpu.snapshot.name,
        vram_bytes=None if gpu is None else gpu.snapshot.total_bytes,
        model=model_key(arguments.model, model_folder),
    )
    preset = preset_of(entry)
    policy = with_typed(preset.policy, arguments, on_cpu=gpu is None)
    if arguments.attention is not None:
        policy = replace(policy, attention=arguments.attention)
    return RunChoices(
        arguments=replace(
            arguments,
            steps=preset.steps if arguments.steps is None else arguments.steps,
            guidance=preset.guidance if arguments.guidance is None else arguments.guidance,
        ),
        policy=policy,
        limits=preset.limits,
        wait_s=_wait_s(arguments.wait_s, policy),
        problems=() if entry is None else entry.problems,
    )


def _wait_s(typed_s: float | None, policy: MemoryPolicy) -> float:
    if typed_s is not None:
        return typed_s
    # Who is strict wants to be told what is missing.
    return 0.0 if policy.strict else DEFAULT_WAIT_S


def _gpu(device: str) -> GpuHere | None:
    try:
        return gpu_here(device)
    except SetupError:
        return None  # The engine says it better, when it is there to be asked.
