"""Weights that others have quantized, as their files' headers tell: such weights run as stored.

Torch-free. What is made of them here would only be worse, so nothing is converted, whatever
precision is asked for.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.core.policy import Precision
from app.engine.gguf_turning import bytes_per_weight
from app.engine.model_weights import ComponentWeights
from app.engine.quantize.gguf_file import KIND_PREFIX
from app.engine.quantize.kept_ways import CANDIDATES
from app.engine.quantize.recipe import Recipe
from app.engine.safetensors_header import TensorEntry
from app.engine.weight_sizes import aligned_bytes

_E4M3 = "float8_e4m3fn"
FP8_NAMES = frozenset({_E4M3, "float8_e5m2"})
_BLOCK = re.compile(
    r"(?:model\.)?(?:language_model\.)?(?:model\.)?"
    r"(transformer_blocks|single_transformer_blocks|layers)\.(\d+)\..+"
)
_BESIDE_WEIGHTS = re.compile(r"(.*\.)?([a-z]+_scale|scale_[a-z]+|scaled_fp8)")
"""Numbers that are no tensors of the network; of the scales, only those of weights are read."""
_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignWeights:
    """One component whose file is quantized.

    Attributes:
        component: "transformer" or "text_encoder".
        stored_as: For people and for a picture's metadata: "fp8", "gguf Q8_0".
        precision: It is computed like.
        block_bytes: Of each block that runs, in their order.
        outside_bytes: Of what is outside the blocks; None where the file holds more than runs.
        e4m3: Whether it is in the fp8 that GPUs multiply with.
        turned_back: Working memory to turn GGUF blocks back into numbers, in bytes for each weight
            of a piece; 0 for what needs as much as its precision.
    """

    component: str
    stored_as: str
    precision: Precision
    block_bytes: tuple[int, ...]
    outside_bytes: int | None
    e4m3: bool = False
    turned_back: float = 0.0


def foreign_of(foreign: Iterable[ForeignWeights], component: str) -> ForeignWeights | None:
    """How others have quantized a component; None where nobody has."""
    return next((one for one in foreign if one.component == component), None)


def tried_precision(recipe: Recipe | None, foreign: ForeignWeights | None) -> Precision | None:
    """As what a component's weights are multiplied: a precision with several ways, or None.

    Args:
        recipe: Of what is quantized here.
        foreign: About what others have quantized.
    """
    if foreign is not None:
        return Precision.FP8 if foreign.e4m3 else None
    return recipe.precision if recipe is not None and recipe.precision in CANDIDATES else None


def foreign_weights(
    weights: ComponentWeights, blocks: dict[str, int], *, whole: bool
) -> ForeignWeights | None:
    """What others have quantized of a component, or None where nobody has.

    Args:
        weights: From the headers.
        blocks: How many blocks run, by the name of their list, in their order.
        whole: Whether all that the file holds is run.
    """
    stored_as = _stored_as(weights)
    if not stored_as:
        return None
    beside_bytes = 4 if weights.dtype() == "float32" else 2
    sizes = {(kind, number): 0 for kind, count in blocks.items() for number in range(count)}
    outside = 0
    for name, entry in weights.tensors.items():
        size = _size_bytes(name, entry, beside_bytes)
        found = _BLOCK.fullmatch(name)
        block = None if found is None else (found[1], int(found[2]))
        if block in sizes:
            sizes[block] += size
        else:
            outside += size
    return ForeignWeights(
        component=weights.component,
        stored_as=stored_as,
        precision=Precision.FP8,
        block_bytes=tuple(sizes.values()),
        outside_bytes=outside if whole else None,
        turned_back=bytes_per_weight(
            entry.dtype.removeprefix(KIND_PREFIX) for entry in weights.tensors.values()
        ),
        e4m3=any(entry.dtype == _E4M3 for entry in weights.tensors.values()),
    )


def _stored_as(weights: ComponentWeights) -> str:
    """The form that most of the quantized bytes have, or ""."""
    sizes: dict[str, int] = {}
    for entry in weights.tensors.values():
        if entry.dtype in FP8_NAMES:
            word = "fp8"
        elif entry.dtype.startswith(KIND_PREFIX):
            word = f"gguf {entry.dtype.removeprefix(KIND_PREFIX)}"
        else:
            continue
        sizes[word] = sizes.get(word, 0) + entry.size_bytes
    return max(sizes, key=lambda word: sizes[word], default="")


def _size_bytes(name: str, entry: TensorEntry, beside_bytes: int) -> int:
    """In memory, as it runs."""
    if entry.dtype.startswith(KIND_PREFIX):
        return aligned_bytes(entry.size_bytes)
    if entry.dtype in FP8_NAMES:
        # With a scale for each row, whatever the file has.
        return aligned_bytes(entry.size_bytes) + aligned_bytes(_SCALE_BYTES * entry.shape[0])
    if _BESIDE_WEIGHTS.fullmatch(name):
        return 0
    return aligned_bytes(beside_bytes * math.prod(entry.shape))
