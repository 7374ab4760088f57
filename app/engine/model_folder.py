"""What is in a model folder: told apart by its configs, checked by its files' headers."""

import enum
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.core.errors import ModelError
from app.core.paths import resource
from app.engine.foreign_weights import ForeignWeights, foreign_weights
from app.engine.model_components import (
    DEV,
    KLEIN,
    Configs,
    ModelFamily,
    PipelineLayout,
    check_weights,
    read_configs,
    text_layers_read,
)
from app.engine.model_json import convert_config, read_json
from app.engine.model_weights import PICKLE_SUFFIXES, ComponentWeights, read_weights
from app.engine.other_models import other_model

LABELS: dict[str, str] = {
    "demo": "Demo: draws simple shapes",
    "klein-4b": "FLUX.2 klein 4B",
    "klein-base-4b": "FLUX.2 klein base 4B",
    "klein-9b": "FLUX.2 klein 9B",
    "klein-base-9b": "FLUX.2 klein base 9B",
    "dev": "FLUX.2 dev",
}
"""Known models: name -> label for people."""
WEIGHT_STEMS = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
"""File name of a component's weights without suffix, by its folder."""
_GET_A_FOLDER = (
    "choose a folder in diffusers layout (with model_index.json, transformer, vae, text_encoder, "
    "tokenizer and scheduler)"
)
_WHOLE = frozenset({"float32", "float16", "bfloat16"})


class GuidanceKind(enum.Enum):
    """What the guidance scale does in a model."""

    NONE = "none"
    """Nothing: klein is distilled, and ignores it."""
    EMBEDDED = "embedded"
    """It is an input of the transformer (dev): one pass per step."""
    CFG = "cfg"
    """It weighs the prompt against no prompt (klein base): two passes per step above 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model that can be run.

    Attributes:
        folder: Absolute path.
        name: "demo", "klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b" or "dev" where the
            configs are that model's; None for any other FLUX.2 model.
        label: For people.
        family: Which pipeline runs it.
        distilled: Whether it is a few-step model that ignores guidance (klein, not klein base).
        guidance: What the guidance scale does.
        default_steps: Denoising steps it was made for.
        default_guidance: Guidance scale it was made for.
        default_width_px: Size it was made for.
        default_height_px: Size it was made for.
        weights_bytes: Size of all weight files.
        text_out_layers: Hidden states of the text encoder that the transformer is given, joined.
        foreign: Components that others have quantized.
    """

    folder: Path
    name: str | None
    label: str
    family: ModelFamily
    distilled: bool
    guidance: GuidanceKind
    default_steps: int
    default_guidance: float
    default_width_px: int
    default_height_px: int
    weights_bytes: int
    text_out_layers: tuple[int, ...]
    foreign: tuple[ForeignWeights, ...] = ()


class _ModelIndex(msgspec.Struct, frozen=True):
    class_name: str = msgspec.field(name="_class_name", default="")
    is_distilled: bool = False


def inspect_model_folder(folder: Path) -> ModelInfo:
    """What a folder's model is; only configs and headers are read, never weights.

    Raises:
        ModelError: The folder is no FLUX.2 model in diffusers layout, or is incomplete.
    """
    # Not the path's own method, which raises for an unknown user.
    folder = Path(os.path.expanduser(folder)).absolute()
    try:
        layout, index = _pipeline(folder)
        configs = read_configs(folder, layout)
        weights = _read_all_weights(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    check_weights(folder, configs, weights)
    return _describe(folder, layout, index, configs, weights)


def stored_dtypes(folder: Path) -> dict[str, str]:
    """The type each component's weights are stored in: {"transformer": "bfloat16", ...}.

    Of weights that are stored in fewer bits, what they are multiplied in.

    Raises:
        ModelError: A component's weights are missing or broken.
    """
    stored = {name: weights.dtype() for name, weights in _read_all_weights(folder).items()}
    return {name: dtype if dtype in _WHOLE else "bfloat16" for name, dtype in stored.items()}


def _read_all_weights(folder: Path) -> dict[str, ComponentWeights]:
    return {name: read_weights(folder / name, stem) for name, stem in WEIGHT_STEMS.items()}


def _pipeline(folder: Path) -> tuple[PipelineLayout, _ModelIndex]:
    """The pipeline that runs the folder, by its model_index.json."""
    if not os.path.exists(folder):  # Not the path's own method, which raises for long names.
        raise ModelError(
            f"There is no model folder {folder}: check the path, or choose the folder again.",
            code="model.missing",
        )
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is a file, not a model folder: {_GET_A_FOLDER}.", code="model.not_a_folder"
        )
    path = folder / "model_index.json"
    if not path.is_file():
        raise _no_index(folder)
    index = convert_config(read_json(path), _ModelIndex, path)
    for layout in (KLEIN, DEV):
        if index.class_name == layout.pipeline_class:
            return layout, index
    raise _not_flux2(folder, index.class_name)


def _not_flux2(folder: Path, class_name: str) -> ModelError:
    if class_name.startswith("Flux2"):
        return ModelError(
            f"The model in {folder} is a FLUX.2 variant that cannot be run yet ({class_name}): "
            "use a klein, klein base or dev folder.",
            code="model.unknown_config",
        )
    name = other_model(class_name) or class_name or "something without a pipeline's name"
    return ModelError(
        f"The model in {folder} is {name}, not FLUX.2: choose a FLUX.2 klein or dev folder.",
        code="model.not_flux2",
    )


def _no_index(folder: Path) -> ModelError:
    """Say what a folder without model_index.json seems to be."""
    inside = sorted(path.parent for path in folder.glob("*/model_index.json"))
    # A folder of the Hugging Face cache keeps the model under snapshots/<commit>.
    inside += sorted(path.parent for path in folder.glob("snapshots/*/model_index.json"))
    names = {path.name.lower() for path in folder.iterdir()}
    if len(inside) == 1:
        reason = f"is not a model folder itself, but the one inside it is: choose {inside[0]}"
    elif inside:
        reason = f"holds several models: choose one of the folders inside it, such as {inside[0]}"
    elif {"config.json"} <= names:
        reason = f"holds a single component, not a whole model: {_GET_A_FOLDER}"
    elif names & {"diffusion_models", "text_encoders", "unet", "checkpoints"}:
        reason = f"looks like ComfyUI's models folder, which has another layout: {_GET_A_FOLDER}"
    elif any(name.endswith((".safetensors", ".sft", ".gguf")) for name in names):
        reason = f"holds single-file checkpoints: {_GET_A_FOLDER}"
    elif any(Path(name).suffix in PICKLE_SUFFIXES for name in names):
        return ModelError(
            f"The folder {folder} holds pickle files, which can run any program when they are "
            "opened: get the model as a diffusers folder with safetensors files.",
            code="model.pickle",
        )
    else:
        reason = f"holds no model: {_GET_A_FOLDER}"
    return ModelError(f"The folder {folder} {reason}.", code="model.not_a_model")


def _unreadable(folder: Path, error: OSError) -> ModelError:
    return ModelError(
        f"The folder {folder} cannot be read ({error.strerror or error}): check its permissions.",
        code="model.unreadable",
    )


def _describe(
    folder: Path,
    layout: PipelineLayout,
    index: _ModelIndex,
    configs: Configs,
    weights: dict[str, ComponentWeights],
) -> ModelInfo:
    klein = layout is KLEIN
    distilled = klein and index.is_distilled
    name = _known_name(folder, layout, configs, distilled=distilled)
    if distilled:
        guidance, steps, scale = GuidanceKind.NONE, 4, 1.0
    elif klein:
        guidance, steps, scale = GuidanceKind.CFG, 50, 4.0
    elif configs.transformer.guidance_embeds:
        guidance, steps, scale = GuidanceKind.EMBEDDED, 28, 4.0
    else:
        guidance, steps, scale = GuidanceKind.NONE, 28, 1.0
    if name == "demo":
        steps = 8
    size_px = 128 if name == "demo" else 1024
    return ModelInfo(
        folder=folder,
        name=name,
        label=_label(folder, name, layout.family, distilled=distilled),
        family=layout.family,
        distilled=distilled,
        guidance=guidance,
        default_steps=steps,
        default_guidance=scale,
        default_width_px=size_px,
        default_height_px=size_px,
        weights_bytes=sum(one.file_bytes for one in weights.values()),
        text_out_layers=configs.text_out_layers(layout),
        foreign=_foreign(layout, configs, weights),
    )


def _foreign(
    layout: PipelineLayout, configs: Configs, weights: dict[str, ComponentWeights]
) -> tuple[ForeignWeights, ...]:
    blocks = {
        "transformer_blocks": configs.transformer.num_layers,
        "single_transformer_blocks": configs.transformer.num_single_layers,
    }
    layers = {"layers": text_layers_read(configs.text_out_layers(layout))}
    found = (
        foreign_weights(weights["transformer"], blocks, whole=True),
        foreign_weights(weights["text_encoder"], layers, whole=False),
    )
    return tuple(one for one in found if one is not None)


# (double blocks, single blocks, transformer width, text encoder width) -> name.
_KLEIN_SIZES = {(5, 20, 3072, 2560): "4b", (8, 24, 4096, 4096): "9b"}
_DEV_SIZE = (8, 48, 6144, 5120)
_DEMO_SIZE = (1, 5, 128, 48)


def _known_name(
    folder: Path, layout: PipelineLayout, configs: Configs, *, distilled: bool
) -> str | None:
    size = configs.size()
    if layout is DEV:
        return "dev" if size == _DEV_SIZE else None
    if size == _DEMO_SIZE or folder == resource("models/demo"):
        return "demo"
    parameters = _KLEIN_SIZES.get(size)
    if parameters is None:
        return None
    return f"klein-{parameters}" if distilled else f"klein-base-{parameters}"


def _label(folder: Path, name: str | None, family: ModelFamily, *, distilled: bool) -> str:
    if name is not None:
        return LABELS[name]
    if family is ModelFamily.DEV:
        kind = "FLUX.2 dev layout"
    else:
        kind = "FLUX.2 klein layout" if distilled else "FLUX.2 klein base layout"
    return f"{folder.name} ({kind})"
