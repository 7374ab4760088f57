"""How a converted file is laid out: a safetensors file in which each block lies as it is packed.

Its tensors stand in the order they are run, at the places they have in a packed block, so that
reading a block is one stretch of the disk, and a mapped file needs no copy. What is between them is
named as tensors, too, because the format has no gaps.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from app.engine.residency.layout import BlockLayout, TensorSpan
from app.engine.safetensors_header import MAX_HEADER_BYTES
from app.engine.stored_weights import CHECK_BYTES

PAGE_BYTES = 4096
"""Blocks begin at multiples of it."""
METADATA_KEY = "headroom"
CHECKS_KEY = "headroom_crc32"
"""Beside it, so that whoever lists files need not read it."""
_GAP = "gap"
_DIGITS = 8
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


class _Metadata(msgspec.Struct, frozen=True):
    checks: str = msgspec.field(name=CHECKS_KEY)


class _Header(msgspec.Struct, frozen=True):
    metadata: _Metadata = msgspec.field(name="__metadata__")


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
        entries: Of the header, by name, without the checksums.
        header_bytes: Length of the header, with them.
        places: Where tensors go, by name: offsets from the file's begin.
        sizes: Of tensors, by name.
        size_bytes: Of the whole file.
    """

    entries: Mapping[str, object]
    header_bytes: int
    places: Mapping[str, int]
    sizes: Mapping[str, int]
    size_bytes: int

    def header(self, checks: Mapping[str, Sequence[int]]) -> bytes:
        """The file's first bytes, when the checksums of its tensors are known."""
        text = _header_text(self.entries, checks)
        length = self.header_bytes - _LENGTH.size
        # Spaces may follow, so that the data begins at a page.
        return _LENGTH.pack(length) + text.ljust(length)


def lay_out_file(groups: Sequence[Group], metadata: Mapping[str, str]) -> FileLayout:
    """Decide where everything goes.

    Args:
        groups: In the order they are run.
        metadata: Kept in the header, for whoever lists the files.
    """
    about = {METADATA_KEY: json.dumps(dict(metadata))}
    entries: dict[str, object] = {"__metadata__": about}
    places: dict[str, int] = {}
    sizes: dict[str, int] = {}
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
            sizes[name] = span.nbytes
    # As long with any checksums as with these.
    none = {name: (0,) * stretches_of(size) for name, size in sizes.items()}
    header_bytes = _rounded(_LENGTH.size + len(_header_text(entries, none)))
    return FileLayout(
        entries=entries,
        header_bytes=header_bytes,
        places={name: header_bytes + offset for name, offset in places.items()},
        sizes=sizes,
        size_bytes=header_bytes + end,
    )


def is_gap(name: str) -> bool:
    """Whether it is what lies between tensors."""
    return name.startswith(f"{_GAP}.")


def stretches_of(size_bytes: int) -> int:
    """How many checksums a tensor has."""
    return -(-size_bytes // CHECK_BYTES)


def read_checks(path: Path) -> dict[str, tuple[int, ...]]:
    """The checksums of a converted file's tensors by name.

    Raises:
        ValueError: It has none that can be read.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            raise ValueError("too short")
        (length,) = _LENGTH.unpack(start)
        header = msgspec.json.decode(file.read(min(length, MAX_HEADER_BYTES)), type=_Header)
    known = msgspec.json.decode(header.metadata.checks, type=dict[str, str])
    return {
        name: tuple(int(text[at : at + _DIGITS], 16) for at in range(0, len(text), _DIGITS))
        for name, text in known.items()
    }


def _header_text(entries: Mapping[str, object], checks: Mapping[str, Sequence[int]]) -> bytes:
    """JSON; each checksum takes the same number of digits."""
    known = {name: "".join(f"{one:0{_DIGITS}x}" for one in ones) for name, ones in checks.items()}
    about: Any = entries["__metadata__"]
    whole = {**entries, "__metadata__": {**about, CHECKS_KEY: json.dumps(known)}}
    return json.dumps(whole, separators=(",", ":")).encode()


def _entry(dtype: str, shape: tuple[int, ...], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
