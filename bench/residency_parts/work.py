"""Shapes of the networks, and how much each block computes; needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.policy import Precision
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.planning.components import TRANSFORMER
from app.engine.request_counts import PATCH_PX
from bench.residency_parts.cases import SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWork:
    """Floating-point operations of one step.

    Attributes:
        linear: Of each block's linear layers; double and single blocks have as many.
        attention: Of each block's attention.
        rest: Of what the network has besides its blocks.
        blocks: How many blocks there are.
    """

    linear: float
    attention: float
    rest: float
    blocks: int

    @property
    def total(self) -> float:
        """Of the whole step."""
        return self.blocks * (self.linear + self.attention) + self.rest


def coefficients_of(model: str) -> ModelCoefficients:
    """The forecast of a model; the small one is the demo's network.

    Raises:
        ValueError: There is no such model.
    """
    found = shipped_coefficients("demo" if model == SMALL else model)
    if found is None:
        raise ValueError(f"there is no model {model!r}")
    return found


def transformer_config(model: str) -> dict[str, Any]:
    """The configuration of a model's transformer, for diffusers."""
    config: Mapping[str, Any] = coefficients_of(model).architecture["transformer"]
    return {name: value for name, value in config.items() if not name.startswith("_")}


def tokens_of(size_px: int) -> int:
    """Of a square picture, without the prompt's."""
    return (size_px // PATCH_PX) ** 2


def block_work(model: str, size_px: int) -> BlockWork:
    """How much a step computes.

    A double block sends picture and prompt through a set of layers each, a single block both
    through one set: either way each token meets (4 + 3 x mlp_ratio) x width^2 weights.
    """
    config = transformer_config(model)
    width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    sequence = tokens_of(size_px) + MAX_PROMPT_TOKENS
    blocks = int(config["num_layers"]) + int(config["num_single_layers"])
    linear = 2.0 * (4 + 3 * float(config["mlp_ratio"])) * width * width * sequence
    attention = 4.0 * width * sequence * sequence
    total = coefficients_of(model).denoise_step_flops(images=1, width_px=size_px, height_px=size_px)
    rest = total - blocks * (linear + attention)
    return BlockWork(linear=linear, attention=attention, rest=rest, blocks=blocks)


def weights_of(model: str, precision: str) -> tuple[int, tuple[int, ...]]:
    """Bytes outside the blocks, and of each block as it is packed."""
    kept = Precision(precision)
    coefficients = coefficients_of(model)
    blocks = coefficients.block_bytes(TRANSFORMER, kept)
    return coefficients.weights_bytes(TRANSFORMER, kept) - sum(blocks), blocks
