"""Model folders in the real layout with empty weights: right headers, no torch, quick to make."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BITS = {"F32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "U8": 8, "I8": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What tells models apart: blocks and widths, and what is needed to write them."""

    blocks: int
    single_blocks: int
    heads: int
    head_dim: int
    encoder_width: int
    encoder_layers: int
    latent_channels: int = 32


KLEIN_4B = Size(
    blocks=5, single_blocks=20, heads=24, head_dim=128, encoder_width=2560, encoder_layers=36
)
KLEIN_9B = Size(
    blocks=8, single_blocks=24, heads=32, head_dim=128, encoder_width=4096, encoder_layers=36
)
DEV = Size(
    blocks=8, single_blocks=48, heads=48, head_dim=128, encoder_width=5120, encoder_layers=40
)
DEMO = Size(
    blocks=1,
    single_blocks=5,
    heads=4,
    head_dim=32,
    encoder_width=48,
    encoder_layers=28,
    latent_channels=16,
)
SMALL = Size(
    blocks=1,
    single_blocks=2,
    heads=2,
    head_dim=16,
    encoder_width=16,
    encoder_layers=4,
    latent_channels=8,
)


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: str = "BF16",
    missing_bytes: int = 0,
) -> None:
    """Write a file with the header of these tensors and zeros (a hole, not bytes) behind it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    write_raw_safetensors(path, json.dumps(header).encode(), data_bytes=end - missing_bytes)


def write_raw_safetensors(path: Path, header: bytes, *, data_bytes: int = 0) -> None:
    """Write a file with any header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + data_bytes)


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), "utf-8")


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None takes a key out."""
    known = {**json.loads(path.read_text("utf-8")), **values}
    write_json(path, {key: value for key, value in known.items() if value is not None})


def make_folder(
    folder: Path,
    size: Size = SMALL,
    *,
    dev: bool = False,
    distilled: bool = True,
    dtype: str = "BF16",
) -> Path:
    """A whole model folder, klein unless `dev`."""
    width = size.heads * size.head_dim
    joint = 3 * size.encoder_width
    channels = 4 * size.latent_channels
    index = {
        "_class_name": "Flux2Pipeline" if dev else "Flux2KleinPipeline",
        "_diffusers_version": "0.36.0.dev0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": [
            "transformers",
            "Mistral3ForConditionalGeneration" if dev else "Qwen3ForCausalLM",
        ],
        "tokenizer": ["transformers", "PixtralProcessor" if dev else "Qwen2TokenizerFast"],
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    write_json(folder / "model_index.json", index if dev else {**index, "is_distilled": distilled})
    write_json(
        folder / "transformer" / "config.json",
        {
            "_class_name": "Flux2Transformer2DModel",
            "attention_head_dim": size.head_dim,
            "num_attention_heads": size.heads,
            "num_layers": size.blocks,
            "num_single_layers": size.single_blocks,
            "in_channels": channels,
            "joint_attention_dim": joint,
            "guidance_embeds": dev,
        },
    )
    write_json(
        folder / "vae" / "config.json",
        {"_class_name": "AutoencoderKLFlux2", "latent_channels": size.latent_channels},
    )
    encoder = {"hidden_size": size.encoder_width, "num_hidden_layers": size.encoder_layers}
    write_json(
        folder / "text_encoder" / "config.json",
        {"model_type": "mistral3", "text_config": encoder} if dev else encoder,
    )
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    )
    write_json(folder / "tokenizer" / "tokenizer_config.json", {})
    write_json(folder / "tokenizer" / "tokenizer.json", {})
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.weight": (width, channels),
        "context_embedder.weight": (width, joint),
    }
    for number in range(size.blocks):
        shapes[f"transformer_blocks.{number}.attn.to_q.weight"] = (2, 2)
        shapes[f"transformer_blocks.{number}.attn.to_k.weight"] = (2, 2)
    for number in range(size.single_blocks):
        shapes[f"single_transformer_blocks.{number}.attn.to_out.weight"] = (2, 2)
    weights = "diffusion_pytorch_model.safetensors"
    write_safetensors(folder / "transformer" / weights, shapes, dtype=dtype)
    write_safetensors(folder / "vae" / weights, {"bn.running_mean": (channels,)}, dtype=dtype)
    prefix = "language_model.model." if dev else "model."
    write_safetensors(
        folder / "text_encoder" / "model.safetensors",
        {f"{prefix}embed_tokens.weight": (8, size.encoder_width)},
        dtype=dtype,
    )
    return folder
