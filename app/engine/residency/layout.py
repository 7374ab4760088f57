"""Where the tensors of a block lie in one packed buffer, the same in RAM and on the device."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

ALIGNMENT_BYTES = 512
"""Of each tensor in a packed buffer, and of each buffer in a larger one.

As torch's caching allocator has it (kMinBlockSize), so that kernels see the same alignment, and a
packed block takes what its tensors would take one by one.
"""


def aligned_bytes(size_bytes: int) -> int:
    """The next multiple of `ALIGNMENT_BYTES`."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpan:
    """One plain tensor in a packed buffer.

    Attributes:
        name: From the block's module on: "attn.to_q.weight". The parts of a wrapper subclass have
            their attribute behind it: "attn.to_q.weight.qdata".
        offset_bytes: From the buffer's begin, a multiple of the dtype's size.
        nbytes: Of the elements.
        shape: Of the tensor.
        dtype: Of the elements.
        stride: In elements; None is contiguous.
    """

    name: str
    offset_bytes: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...] | None = None

    def view_of(self, buffer: torch.Tensor) -> torch.Tensor:
        """The tensor as a view of a packed uint8 buffer on any device."""
        flat = buffer.narrow(0, self.offset_bytes, self.nbytes).view(self.dtype)
        if self.stride is None:
            return flat.view(self.shape)
        return flat.as_strided(self.shape, self.stride, flat.storage_offset())


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """A packed block.

    Attributes:
        spans: Its tensors, in the order of their offsets.
        size_bytes: Of the whole buffer, a multiple of `ALIGNMENT_BYTES`.
    """

    spans: tuple[TensorSpan, ...]
    size_bytes: int


def lay_out(tensors: Iterable[tuple[str, torch.Tensor]]) -> BlockLayout:
    """Put tensors one behind the other; those on the meta device have shapes and dtypes, too.

    Args:
        tensors: Names and plain tensors.
    """
    spans: list[TensorSpan] = []
    end_bytes = 0
    for name, tensor in tensors:
        span = TensorSpan(
            name=name,
            offset_bytes=end_bytes,
            nbytes=tensor.numel() * tensor.element_size(),
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            stride=_kept_stride(tensor),
        )
        spans.append(span)
        end_bytes = aligned_bytes(end_bytes + span.nbytes)
    return BlockLayout(spans=tuple(spans), size_bytes=end_bytes)


def _kept_stride(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """A dense tensor keeps its order, on which kernels and so the last bits may depend."""
    if tensor.is_contiguous():
        return None
    sizes = sorted(
        (stride, size)
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    )
    expected = 1
    for stride, size in sizes:
        if stride != expected:
            return None
        expected *= size
    return tuple(tensor.stride())
