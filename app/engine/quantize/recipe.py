"""Which layers of a network are kept in fewer bits, and in which form; needs no torch."""

import hashlib
import json
import math
import re
from dataclasses import dataclass

from app.core.policy import Precision

QUANTIZED = frozenset({Precision.FP8, Precision.INT8, Precision.NF4})
"""Precisions that are made here; the others are plain types of torch."""

NF4_BLOCK = 32
"""Weights that share a scale of 16 bits: 4.5 bits a weight, as with 64 and 32 bits, but closer."""
LEAST_BLOCK = 8
NATIVE_SIDES = 16
"""Sides of a weight are multiples of it: what products in fp8 on a GPU ask for; in int8 it is 8."""
FORMAT_VERSION = 2
"""Of what a recipe makes: a file of another version is made again. Since 2 with checksums."""

_IN_A_BLOCK = re.compile(r"(^|\.)(transformer_blocks|single_transformer_blocks|layers)\.\d+\.")
_NEVER = re.compile(r"norm|modulation|embed|vision|router|lm_head")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one component's weights are kept.

    Attributes:
        precision: One of `QUANTIZED`.
        block: With 4 bits, so many weights share a scale, or fewer where a layer is too narrow.
    """

    precision: Precision
    block: int = NF4_BLOCK

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if self.precision not in QUANTIZED:
            raise ValueError(f"{self.precision.value} is no precision that is quantized to")

    def block_of(self, in_features: int) -> int:
        """Weights of a layer that share a scale."""
        return math.gcd(self.block, in_features)

    def covers(self, name: str, in_features: int, out_features: int) -> bool:
        """Whether a linear layer of this name and size is quantized.

        Attention and feed-forward layers of the repeated blocks are: nearly all bytes. Norms,
        modulation, embeddings and the layers before and after the blocks are small, and decide
        the picture's tones.
        """
        if not _IN_A_BLOCK.search(name) or _NEVER.search(name):
            return False
        if self.precision is Precision.NF4:
            return self.block_of(in_features) >= LEAST_BLOCK
        return in_features % NATIVE_SIDES == 0 and out_features % NATIVE_SIDES == 0

    def layer_bytes(self, in_features: int, out_features: int) -> int:
        """What a quantized layer takes, without its bias."""
        weights = in_features * out_features
        if self.precision is Precision.NF4:
            return weights // 2 + 2 * weights // self.block_of(in_features)
        return weights + 4 * out_features

    def digest(self, *more: object) -> str:
        """A short name of what this recipe makes, and of what else is given."""
        parts = [FORMAT_VERSION, self.precision.value, self.block, *map(str, more)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
