"""What earlier runs have left on the disk for a request: looked up without torch, as one types."""

import functools
import importlib.metadata
import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ModelError
from app.core.paths import AppPaths
from app.core.policy import MemoryPolicy, Precision
from app.core.profile import DeviceProfile
from app.core.request import GenerationRequest
from app.engine.encoder_identity import encoder_identity, prompt_key
from app.engine.foreign_weights import foreign_of, tried_precision
from app.engine.machine import CPU
from app.engine.model_folder import GuidanceKind, ModelInfo, stored_dtypes
from app.engine.planning.at_hand import AtHand
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.planning.precisions import LADDER
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import KeptFile, kept_files
from app.engine.quantize.kept_ways import Way, kept_way
from app.engine.quantize.recipe import FORMAT_VERSION, QUANTIZED, Recipe

UNCONDITIONAL_PROMPT = ""
"""What guidance pushes away from (diffusers Flux2KleinPipeline)."""
_HALVES = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFolders:
    """Where runs leave what they make.

    Attributes:
        converted: Quantized weights.
        embeddings: Of prompts; None where the user's settings say that none are used.
        products: File that says how weights in 8 bits are multiplied.
    """

    converted: Path
    embeddings: Path | None
    products: Path

    @classmethod
    def of(cls, paths: AppPaths, *, keeps_embeddings: bool) -> "KeptFolders":
        """Where they are for this user."""
        embeddings = paths.embeddings_folder if keeps_embeddings else None
        return cls(
            converted=paths.converted_folder, embeddings=embeddings, products=paths.products_file
        )


def runs_as(
    kind: str,
    name: str,
    *,
    simulated: bool,
    weights: Iterable[tuple[str, Recipe | None]],
    way: Way,
) -> tuple[str, ...]:
    """What a prompt's embeddings depend on beside model and prompt; for `encoder_identity`.

    Args:
        kind: Of the device, as in `DeviceProfile`.
        name: Of the device.
        simulated: Whether the device is.
        weights: Type and recipe of the text encoder's weights, then of the transformer's, in whose
            type embeddings come; the type as torch writes it.
        way: In which the text encoder's weights are multiplied.

    Raises:
        importlib.metadata.PackageNotFoundError: A library cannot be asked for its version.
    """
    kept_as = (
        f"{dtype} {Precision.AUTO.value if recipe is None else recipe}" for dtype, recipe in weights
    )
    return (kind, name, str(simulated), *kept_as, way.value, *_libraries())


def look_up(
    info: ModelInfo | None,
    request: GenerationRequest,
    device: DeviceProfile,
    policy: MemoryPolicy,
    folders: KeptFolders,
) -> AtHand:
    """What is kept for a request.

    Files are looked for by name and size, and none is hashed whose state is as before. What cannot
    be told counts as not kept: the plan then says more than is needed, never less.

    Args:
        info: Of the request's model; None where it is not installed.
        request: With its prompt.
        device: It would run on.
        policy: How memory may be used.
        folders: Where to look.
    """
    if info is None:
        return AtHand()
    return AtHand(
        converted=frozenset(
            (kept.component, kept.precision)
            for kept in kept_files(folders.converted)
            if _is_of(kept, info)
        ),
        known_prompts=_known_prompts(info, request, device, policy, folders),
    )


def _is_of(kept: KeptFile, info: ModelInfo) -> bool:
    if kept.format != FORMAT_VERSION:
        return False
    if not kept.sources:
        return kept.model == info.label
    return kept.made_of(info.folder / kept.component)


def _known_prompts(
    info: ModelInfo,
    request: GenerationRequest,
    device: DeviceProfile,
    policy: MemoryPolicy,
    folders: KeptFolders,
) -> frozenset[tuple[Precision, Precision]]:
    if folders.embeddings is None:
        return frozenset()
    folder = prompt_folder(folders.embeddings)
    guided = info.guidance is GuidanceKind.CFG and request.guidance > 1
    prompts = (request.prompt, UNCONDITIONAL_PROMPT) if guided else (request.prompt,)
    found: set[tuple[Precision, Precision]] = set()
    try:
        stored = _stored_dtypes(info)
        wanted = policy.precisions
        for pair in itertools.product(
            _possible(info, TEXT_ENCODER, wanted.text_encoder, stored, device),
            _possible(info, TRANSFORMER, wanted.transformer, stored, device),
        ):
            weights = (
                _weights(info, TEXT_ENCODER, pair[0], stored, device),
                _weights(info, TRANSFORMER, pair[1], stored, device),
            )
            way = _way(info, weights[0], device, folders.products)
            if way is None:
                continue
            how = runs_as(
                device.kind, device.name, simulated=device.simulated, weights=weights, way=way
            )
            identity = encoder_identity(info, runs_as=how, quick=True)
            if all(folder.holds(prompt_key(identity, prompt)) for prompt in prompts):
                found.add(pair)
    except (OSError, ModelError, importlib.metadata.PackageNotFoundError):
        return frozenset()
    return frozenset(found)


@functools.lru_cache(maxsize=16)
def _stored_dtypes(info: ModelInfo) -> dict[str, str]:
    return stored_dtypes(info.folder)


def _possible(
    info: ModelInfo, name: str, wanted: Precision, stored: dict[str, str], device: DeviceProfile
) -> tuple[Precision, ...]:
    """What the planner may resolve a precision to."""
    foreign = foreign_of(info.foreign, name)
    if foreign is not None:
        return (foreign.precision,)
    if wanted is not Precision.AUTO:
        return (wanted,)
    if device.kind == CPU:
        return (Precision.FP32 if stored[name] == "float32" else Precision.BF16,)
    return LADDER


def _weights(
    info: ModelInfo, name: str, precision: Precision, stored: dict[str, str], device: DeviceProfile
) -> tuple[str, Recipe | None]:
    """Their type and recipe, as `app.engine.run.precisions` has them of a run; a test compares."""
    if precision is Precision.FP32:
        dtype = "float32"
    elif device.kind == CPU and (precision in QUANTIZED or stored[name] in _HALVES):
        dtype = stored[name]
    else:
        dtype = "bfloat16"
    made_here = precision in QUANTIZED and foreign_of(info.foreign, name) is None
    return f"torch.{dtype}", Recipe(precision=precision) if made_here else None


def _way(
    info: ModelInfo, weights: tuple[str, Recipe | None], device: DeviceProfile, products: Path
) -> Way | None:
    """In which the text encoder's weights would be multiplied; None before it was tried."""
    dtype, recipe = weights
    precision = tried_precision(recipe, foreign_of(info.foreign, TEXT_ENCODER))
    on_cpu = device.simulated or device.kind == CPU
    return kept_way(products, device.name, precision, dtype, on_cpu=on_cpu)


@functools.cache
def _libraries() -> tuple[str, ...]:
    names = ("torch", "transformers", "diffusers")
    torch_version, *others = (importlib.metadata.version(name) for name in names)
    return (torch_version, sys.version, *others)
