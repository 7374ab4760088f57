"""How much memory a network's weights take: each tensor by itself, as it is packed.

Torch-free. Kept in as few numbers as it takes: equal tensors are counted, equal blocks are told
once.
"""

import functools
from dataclasses import dataclass

from app.core.policy import Precision
from app.engine.quantize.recipe import QUANTIZED, Recipe

ALIGNMENT_BYTES = 512
"""Each tensor begins at a multiple of it, alone on a device (torch's allocator) as well as packed
with others of its block."""
NAMED_LIKE = "transformer_blocks.0.linear"
"""A name that recipes cover, where only sizes are known."""
_ELEMENT_BYTES = {Precision.FP32: 4, Precision.BF16: 2}

Matrices = tuple[tuple[int, int, int], ...]
"""Rows, columns, and how many matrices of that size."""
Tensors = tuple[tuple[int, int], ...]
"""Parameters, and how many tensors of that size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Tensors of a part of a network.

    Attributes:
        matrices: Weights of linear layers that can be quantized.
        others: All others, which are never quantized.
    """

    matrices: Matrices = ()
    others: Tensors = ()

    def stored_bytes(self, precision: Precision, beside: Precision = Precision.BF16) -> int:
        """Size in memory.

        Args:
            precision: Of the matrices, and of the others too unless it is a quantized one.
            beside: Of the others beside quantized matrices.

        Raises:
            ValueError: The precision is AUTO, which says nothing.
        """
        return _stored_bytes(self.matrices, self.others, precision, beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCoefficients:
    """Weights of one network, without what is never read.

    Attributes:
        outside: Outside the blocks, never quantized.
        ram_only: Never on a GPU, because only some rows are looked up: the table of embeddings.
        kinds: Of blocks that can come and go by themselves.
        blocks: The kind of each block, in the order they run.
    """

    outside: ParameterCounts
    ram_only: ParameterCounts
    kinds: tuple[ParameterCounts, ...]
    blocks: tuple[int, ...]

    def block_bytes(
        self, precision: Precision, beside: Precision = Precision.BF16
    ) -> tuple[int, ...]:
        """Of each block; see `ParameterCounts.stored_bytes`.

        Raises:
            ValueError: The precision is AUTO, which says nothing.
        """
        sizes = [kind.stored_bytes(precision, beside) for kind in self.kinds]
        return tuple(sizes[kind] for kind in self.blocks)

    def widest_matrix(self) -> int:
        """Rows of the matrix in a block that has most: columns of its product."""
        return max(
            (rows for kind in self.kinds for rows, _columns, _count in kind.matrices), default=0
        )

    def largest_matrix(self) -> int:
        """Parameters of the largest matrix in a block."""
        return max(
            (rows * columns for kind in self.kinds for rows, columns, _count in kind.matrices),
            default=0,
        )


def aligned_bytes(size_bytes: int) -> int:
    """With what is left free up to where the next tensor can begin."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@functools.lru_cache(maxsize=512)
def _stored_bytes(
    matrices: Matrices, others: Tensors, precision: Precision, beside: Precision
) -> int:
    if precision is Precision.AUTO:
        raise ValueError("AUTO is no precision: decide on one first")
    element = _ELEMENT_BYTES[beside if precision in QUANTIZED else precision]
    total = sum(count * aligned_bytes(element * size) for size, count in others)
    recipe = Recipe(precision=precision) if precision in QUANTIZED else None
    for rows, columns, count in matrices:
        if recipe is None or not recipe.covers(NAMED_LIKE, columns, rows):
            total += count * aligned_bytes(element * rows * columns)
            continue
        codes = rows * columns // (2 if precision is Precision.NF4 else 1)
        scales = recipe.layer_bytes(columns, rows) - codes
        total += count * (aligned_bytes(codes) + aligned_bytes(scales))
    return total
