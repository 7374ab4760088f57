"""What stands in a safetensors file, from its header alone: no weight is ever read.

File: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.core.errors import ModelError
from app.core.units import format_bytes

MAX_HEADER_BYTES = 100_000_000
"""The safetensors library refuses longer headers, too."""
_LENGTH = struct.Struct("<Q")
_LFS_POINTER = b"version https://git-lfs"

_DTYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
    "F4": ("float4", 4),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E8M0": ("float8_e8m0", 8),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
}
"""safetensors name -> torch's name and bits per value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor of a file.

    Attributes:
        dtype: As torch calls it, such as "bfloat16".
        shape: Dimensions.
        size_bytes: In the file.
        offset_bytes: Where it begins, counted from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    offset_bytes: int = 0


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name.

    Raises:
        ModelError: The file is truncated, a Git LFS pointer, not readable or not safetensors.
    """
    try:
        file_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            if start.startswith(_LFS_POINTER):
                raise _lfs_pointer(path)
            if len(start) < _LENGTH.size:
                raise _truncated(path, file_bytes, None)
            (length,) = _LENGTH.unpack_from(start)
            if length > MAX_HEADER_BYTES:
                raise _invalid(path, f"header of {length} bytes")
            data_start = _LENGTH.size + length
            if data_start > file_bytes:
                raise _truncated(path, file_bytes, None)
            file.seek(_LENGTH.size)
            header = file.read(length)
    except OSError as error:
        raise unreadable_weights(path, error) from error
    tensors, end = _parse(path, header, data_start)
    if data_start + end > file_bytes:
        raise _truncated(path, file_bytes, data_start + end)
    return tensors


def unreadable_weights(path: Path, error: OSError) -> ModelError:
    """The system does not give a weights file."""
    return ModelError(
        f"The weights file {path} cannot be read ({error.strerror or error}): "
        "check the disk and the file's permissions.",
        code="model.unreadable",
    )


def invalid_weights(path: Path, file_kind: str, details: str) -> ModelError:
    """A weights file is not what its name says: "safetensors", "GGUF"."""
    return ModelError(
        f"The weights file {path} is not a valid {file_kind} file: "
        "download it again from the model's source.",
        code="model.invalid_weights",
        details=details,
    )


def _parse(path: Path, header: bytes, data_start: int) -> tuple[dict[str, TensorEntry], int]:
    """The tensors, and where the last one's bytes end, counted from the end of the header."""
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries = {
            name: msgspec.json.decode(value, type=_Entry)
            for name, value in raw.items()
            if name != "__metadata__"
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(path, str(error)) from error
    if not entries:
        raise _invalid(path, "no tensors")
    # Sorted by place, each tensor must begin where the one before it ends: no gaps, no overlaps.
    end = 0
    tensors: dict[str, TensorEntry] = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, stop = entry.data_offsets
        if entry.dtype not in _DTYPES:
            raise _invalid(path, f"{name} has the unknown type {entry.dtype}")
        dtype, bits = _DTYPES[entry.dtype]
        if min(entry.shape, default=0) < 0:
            raise _invalid(path, f"{name} has a negative dimension")
        if begin != end or (stop - begin) * 8 != math.prod(entry.shape) * bits:
            raise _invalid(path, f"{name} lies at {begin} to {stop}")
        end = stop
        tensors[name] = TensorEntry(
            dtype=dtype,
            shape=entry.shape,
            size_bytes=stop - begin,
            offset_bytes=data_start + begin,
        )
    return tensors, end


def _truncated(path: Path, actual_bytes: int, expected_bytes: int | None) -> ModelError:
    if expected_bytes is None:
        size = f"it ends after {format_bytes(actual_bytes)}, inside its header"
    else:
        size = (
            f"it should have {format_bytes(expected_bytes)} ({expected_bytes} bytes) "
            f"but has {format_bytes(actual_bytes)} ({actual_bytes} bytes)"
        )
    return ModelError(
        f"The weights file {path} is incomplete: {size}. Download it again.",
        code="model.truncated",
    )


def _lfs_pointer(path: Path) -> ModelError:
    return ModelError(
        f"The weights file {path} is only a Git LFS pointer: "
        "run “git lfs pull” in the model's folder, or download the file itself.",
        code="model.lfs_pointer",
    )


def _invalid(path: Path, details: str) -> ModelError:
    return invalid_weights(path, "safetensors", details)
