"""What in a model's configs decides sizes of tensors, so that equal models can be told by it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 128,
    "out_channels": None,
    "num_layers": 8,
    "num_single_layers": 48,
    "attention_head_dim": 128,
    "num_attention_heads": 48,
    "joint_attention_dim": 15360,
    "timestep_guidance_channels": 256,
    "mlp_ratio": 3.0,
    "axes_dims_rope": [32, 32, 32, 32],
    "guidance_embeds": True,
}
"""Names and defaults of diffusers' Flux2Transformer2DModel."""
AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [128, 256, 512, 512],
    "decoder_block_out_channels": None,
    "layers_per_block": 2,
    "latent_channels": 32,
    "norm_num_groups": 32,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
"""Names and defaults of diffusers' AutoencoderKLFlux2."""
TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": None,
    "intermediate_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "num_key_value_heads": None,
    "head_dim": None,
    "vocab_size": None,
    "tie_word_embeddings": False,
}
"""Names in the configs of Qwen3 and Mistral."""
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 16,
}
"""Names and defaults of the part of Mistral that sees."""
Configs = Mapping[str, Mapping[str, Any]]
"""The content of each component's config.json, by the component's name."""
Architecture = dict[str, dict[str, Any]]
"""Of each component's config what decides sizes."""


def read_all_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """The configs of a model folder: "text_encoder", "transformer", "autoencoder".

    Raises:
        OSError: One cannot be read.
        msgspec.DecodeError: One is no JSON object.
    """
    places = {"text_encoder": "text_encoder", "transformer": "transformer", "autoencoder": "vae"}
    return {
        name: msgspec.json.decode(
            (folder / place / "config.json").read_bytes(), type=dict[str, Any]
        )
        for name, place in places.items()
    }


def architecture_of(configs: Configs) -> Architecture:
    """The parts of the configs that decide sizes, with defaults filled in."""
    encoder = configs["text_encoder"]
    text: Mapping[str, Any] = encoder.get("text_config") or encoder
    found = {
        "text_encoder": _pick(text, TEXT_ENCODER),
        "transformer": _pick(configs["transformer"], TRANSFORMER),
        "autoencoder": _pick(configs["autoencoder"], AUTOENCODER),
    }
    vision: Mapping[str, Any] | None = encoder.get("vision_config")
    if vision is not None:
        found["vision"] = _pick(vision, VISION)
    return found


def digest_of(architecture: Configs, *more: object) -> str:
    """A short name of an architecture, and of what else is given."""
    text = json.dumps([architecture, [str(part) for part in more]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _pick(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values.get(name, default) for name, default in defaults.items()}
