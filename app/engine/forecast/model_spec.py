"""What the dry run needs to know of a model: its configs, and how its pipeline uses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.policy import Precision
from app.engine.architecture import read_all_configs
from app.engine.coefficients import SMALL_DECODER, stored_precision
from app.engine.model_components import DEV, KLEIN, ModelFamily, PipelineLayout
from app.engine.model_folder import LABELS, GuidanceKind, ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the dry run sees it.

    Attributes:
        name: As in the catalog, or "" for any other model.
        label: For people.
        layout: Pipeline and class of the text encoder.
        guidance: What the guidance scale does.
        distilled: Whether it is a few-step model.
        default_steps: Denoising steps it was made for.
        stored_precision: Of its weights.
        text_out_layers: Hidden states of the text encoder that the transformer is given.
        configs: Content of the config.json of "text_encoder", "transformer", "autoencoder".
    """

    name: str
    label: str
    layout: PipelineLayout
    guidance: GuidanceKind
    distilled: bool
    default_steps: int
    stored_precision: Precision
    text_out_layers: tuple[int, ...]
    configs: Mapping[str, Mapping[str, Any]]


def spec_of(info: ModelInfo) -> ModelSpec:
    """The spec of a model folder.

    Raises:
        OSError: A config cannot be read.
        msgspec.DecodeError: A config is no JSON object.
    """
    return ModelSpec(
        name=info.name or "",
        label=info.label,
        layout=KLEIN if info.family is ModelFamily.KLEIN else DEV,
        guidance=info.guidance,
        distilled=info.distilled,
        default_steps=info.default_steps,
        stored_precision=stored_precision(info.folder),
        text_out_layers=info.text_out_layers,
        configs=read_all_configs(info.folder),
    )


def known_spec(name: str) -> ModelSpec:
    """The spec of a published model, from its published configs, no folder needed.

    Args:
        name: As in the catalog, without the demo; with SMALL_DECODER behind it, that variant.

    Raises:
        KeyError: There is no such model.
    """
    base = name.removesuffix(SMALL_DECODER)
    configs = dict(_CONFIGS[base])
    label = LABELS[base]
    if name != base:
        configs["autoencoder"] = _SMALL_DECODER_AUTOENCODER
        label += " with the small decoder"
    dev = base == "dev"
    distilled = not dev and "base" not in base
    guidance = GuidanceKind.EMBEDDED if dev else GuidanceKind.CFG
    layout = DEV if dev else KLEIN
    return ModelSpec(
        name=name,
        label=label,
        layout=layout,
        guidance=GuidanceKind.NONE if distilled else guidance,
        distilled=distilled,
        default_steps=28 if dev else 4 if distilled else 50,
        stored_precision=Precision.BF16,
        text_out_layers=layout.text_out_layers,
        configs=configs,
    )


def _qwen3(hidden: int, intermediate: int, *, tied: bool) -> dict[str, Any]:
    """Qwen3-4B and Qwen3-8B differ in these only."""
    return {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": tied,
    }


def _transformer(
    *, double: int, single: int, heads: int, joint: int, guidance: bool
) -> dict[str, Any]:
    """Published values of diffusers' scripts/convert_flux2_to_diffusers.py."""
    return {
        "in_channels": 128,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": 128,
        "num_attention_heads": heads,
        "joint_attention_dim": joint,
        "timestep_guidance_channels": 256,
        "mlp_ratio": 3.0,
        "axes_dims_rope": [32, 32, 32, 32],
        "rope_theta": 2000,
        "guidance_embeds": guidance,
    }


_MISTRAL_SMALL: dict[str, Any] = {
    "model_type": "mistral3",
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "mistral",
        "vocab_size": 131072,
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "model_type": "pixtral",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "head_dim": 64,
        "image_size": 1540,
        "patch_size": 14,
    },
    "spatial_merge_size": 2,
}
"""Mistral-Small-3.2-24B-Instruct-2506, which sees, although FLUX.2 only has it read."""
_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 32,
    "norm_num_groups": 32,
    "sample_size": 1024,
}
_SMALL_DECODER_AUTOENCODER: dict[str, Any] = {
    **_AUTOENCODER,
    "decoder_block_out_channels": [96, 192, 384, 384],
}
_KLEIN_4B = {
    "text_encoder": _qwen3(2560, 9728, tied=True),
    "transformer": _transformer(double=5, single=20, heads=24, joint=7680, guidance=False),
    "autoencoder": _AUTOENCODER,
}
_KLEIN_9B = {
    "text_encoder": _qwen3(4096, 12288, tied=False),
    "transformer": _transformer(double=8, single=24, heads=32, joint=12288, guidance=False),
    "autoencoder": _AUTOENCODER,
}
_CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "klein-4b": _KLEIN_4B,
    "klein-base-4b": _KLEIN_4B,
    "klein-9b": _KLEIN_9B,
    "klein-base-9b": _KLEIN_9B,
    "dev": {
        "text_encoder": _MISTRAL_SMALL,
        "transformer": _transformer(double=8, single=48, heads=48, joint=15360, guidance=True),
        "autoencoder": _AUTOENCODER,
    },
}
