"""How a converted file is laid out: a safetensors file in which each block lies as it is packed.

Its tensors stand in the order they are run, at the places they have in a packed block, so that
reading a block is one stretch of the disk, and a mapped file needs no copy. What is between them is
named as tensors, too, because the format has no gaps.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from app.engine.residency.layout import BlockLayout, TensorSpan

PAGE_BYTES = 4096
"""Blocks begin at multiples of it."""
METADATA_KEY = "headroom"
_GAP = "gap"
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tensors that lie together: a block, or what a network has besides its blocks.

    Attributes:
        prefix: Before the names in the layout, such as "transformer_blocks.0.".
        layout: As it is packed.
        left_out: Names in the layout that are not in the file.
    """

    prefix: str
    layout: BlockLayout
    left_out: frozenset[str] = frozenset()

    def spans(self) -> Iterator[TensorSpan]:
        """Those that are in the file, in order."""
        return (span for span in self.layout.spans if span.name not in self.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLayout:
    """A converted file before it is written.

    Attributes:
        header: Its first bytes.
        places: Where tensors go, by name: offsets from the file's begin.
        size_bytes: Of the whole file.
    """

    header: bytes
    places: Mapping[str, int]
    size_bytes: int


def lay_out_file(groups: Sequence[Group], metadata: Mapping[str, str]) -> FileLayout:
    """Decide where everything goes.

    Args:
        groups: In the order they are run.
        metadata: Kept in the header, for whoever lists the files.
    """
    entries: dict[str, object] = {"__metadata__": {METADATA_KEY: json.dumps(dict(metadata))}}
    places: dict[str, int] = {}
    end = gaps = 0
    for group in groups:
        begin = _rounded(end)
        for span in group.spans():
            offset = begin + span.offset_bytes
            if offset > end:
                entries[f"{_GAP}.{gaps}"] = _entry("U8", (offset - end,), end, offset)
                gaps += 1
            end = offset + span.nbytes
            name = f"{group.prefix}{span.name}"
            entries[name] = _entry(_NAMES[span.dtype], span.shape, offset, end)
            places[name] = offset
    text = json.dumps(entries, separators=(",", ":")).encode()
    # Spaces may follow, so that the data begins at a page.
    length = _rounded(_LENGTH.size + len(text)) - _LENGTH.size
    header = _LENGTH.pack(length) + text.ljust(length)
    return FileLayout(
        header=header,
        places={name: len(header) + offset for name, offset in places.items()},
        size_bytes=len(header) + end,
    )


def _entry(dtype: str, shape: tuple[int, ...], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
