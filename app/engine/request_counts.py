"""What a request comes to in the units that the networks' memory and time are counted in."""

import math
from collections.abc import Sequence

from app.core.request import MAX_PROMPT_TOKENS
from app.engine.architecture import Configs
from app.engine.attention.chunks import chunk_bytes
from app.engine.quantize.pieces import sums_bytes

PATCH_PX = 16
"""One image token is 16x16 pixels."""
SUMS = "sums"
"""Name of a count: see `with_sums`."""
REFERENCE_AREA_PX = 1024 * 1024
"""Larger reference images are made smaller, to this area (diffusers Flux2ImageProcessor)."""


def reference_size(width_px: int, height_px: int) -> tuple[int, int]:
    """The size a reference image is encoded at: at most a megapixel, in whole tokens."""
    if width_px * height_px > REFERENCE_AREA_PX:
        scale = math.sqrt(REFERENCE_AREA_PX / (width_px * height_px))
        width_px, height_px = int(width_px * scale), int(height_px * scale)
    return width_px // PATCH_PX * PATCH_PX, height_px // PATCH_PX * PATCH_PX


def denoise_counts(
    images: int, width_px: int, height_px: int, references: Sequence[tuple[int, int]] = ()
) -> dict[str, float]:
    """The counts that the transformer's memory and time depend on."""
    tokens = image_tokens(width_px, height_px)
    reference_tokens = sum(image_tokens(*reference_size(*size)) for size in references)
    return {
        "images": images,
        "tokens": tokens,
        "reference_tokens": reference_tokens,
        "sequence": MAX_PROMPT_TOKENS + tokens + reference_tokens,
    }


def attention_shape(architecture: Configs) -> tuple[int, int]:
    """Heads of a transformer's attention, and the width of each."""
    transformer = architecture["transformer"]
    return int(transformer["num_attention_heads"]), int(transformer["attention_head_dim"])


def with_attention(counts: dict[str, float], heads: int, head_width: int) -> dict[str, float]:
    """Counts with what attention in parts needs beside its inputs and its output, in bytes."""
    chunk = chunk_bytes(
        batch=int(counts["images"]),
        heads=heads,
        tokens=int(counts["sequence"]),
        head_width=head_width,
    )
    return {**counts, "chunk": chunk}


def with_sums(counts: dict[str, float], width: int) -> dict[str, float]:
    """Counts with the bytes of sums that the widest product in int8 makes at once."""
    tokens = int(counts["images"] * counts["sequence"])
    return {**counts, SUMS: sums_bytes(tokens, width)}


def denoise_case(counts: dict[str, float]) -> str:
    """Which lines count: some copies are made only for several images, or only with references."""
    images = "one" if counts["images"] == 1 else "several"
    return f"{images} with references" if counts["reference_tokens"] else images


def decode_counts(images: int, width_px: int, height_px: int) -> dict[str, float]:
    """The counts that the autoencoder's memory and time depend on."""
    return {
        "images": images,
        "tokens": image_tokens(width_px, height_px),
        "edge": (width_px + height_px) // PATCH_PX,
    }


def image_tokens(width_px: int, height_px: int) -> int:
    """Tokens of an image, or of a reference image of that size."""
    return (width_px // PATCH_PX) * (height_px // PATCH_PX)
