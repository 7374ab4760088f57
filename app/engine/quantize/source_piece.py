"""Pieces of a stored tensor: small enough that many are in RAM at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from app.engine.residency.block_source import BlockSource
from app.engine.residency.layout import BlockLayout, TensorSpan
from app.engine.stored_weights import StoredTensor

PIECE_WEIGHTS = 1 << 22
"""8 MiB in bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some rows of a stored tensor, or all of it.

    Attributes:
        name: Of the tensor, or of the layer it is the weight of.
        stored: Where these rows are.
        dtype: That is wanted.
        first_row: Of them, in the whole tensor.
    """

    name: str
    stored: StoredTensor
    dtype: torch.dtype
    first_row: int = 0

    def read(self) -> torch.Tensor:
        """The numbers, in RAM.

        Raises:
            ModelError: The file cannot be read, or has become shorter.
        """
        shape = self.stored.shape
        size_bytes = math.prod(shape) * self.dtype.itemsize
        span = TensorSpan(
            name=self.name, offset_bytes=0, nbytes=size_bytes, shape=shape, dtype=self.dtype
        )
        packed = torch.empty(size_bytes, dtype=torch.uint8)
        layout = BlockLayout(spans=(span,), size_bytes=size_bytes)
        BlockSource(layout, {self.name: self.stored}).read_into(packed)
        return span.view_of(packed)


def pieces_of(
    name: str, stored: StoredTensor, dtype: torch.dtype, *, at_once: int = PIECE_WEIGHTS
) -> Iterator[Piece]:
    """A stored tensor, some rows at a time.

    Args:
        name: Of the pieces.
        stored: The whole tensor.
        dtype: That is wanted.
        at_once: Numbers of a piece, about; of a tensor without rows it is all.
    """
    if not stored.shape or not stored.nbytes:
        yield Piece(name=name, stored=stored, dtype=dtype)
        return
    rows, *row = stored.shape
    row_bytes = stored.nbytes // rows
    step = max(1, at_once // math.prod(row))
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = replace(
            stored,
            offset_bytes=stored.offset_bytes + first * row_bytes,
            nbytes=count * row_bytes,
            shape=(count, *row),
        )
        yield Piece(name=name, stored=part, dtype=dtype, first_row=first)
