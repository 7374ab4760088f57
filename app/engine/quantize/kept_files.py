"""Converted files that are kept: which there are, how large, and removing them; needs no torch."""

import contextlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.core.policy import Precision
from app.engine.safetensors_header import MAX_HEADER_BYTES

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A converted file.

    Attributes:
        path: Of the file.
        component: "text_encoder" or "transformer".
        precision: It was converted to.
        model: Label of the model it was made of, for people.
        size_bytes: On the disk.
        used_s: When it was last opened or written, seconds since 1970.
    """

    path: Path
    component: str
    precision: Precision
    model: str
    size_bytes: int
    used_s: float


class _Told(msgspec.Struct, frozen=True):
    component: str
    precision: Precision
    model: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    headroom: str


class _Header(msgspec.Struct, frozen=True):
    metadata: _Metadata = msgspec.field(name="__metadata__")


def kept_files(folder: Path) -> list[KeptFile]:
    """The converted files in a folder, the last used first; what is none of ours is left out."""
    found: list[KeptFile] = []
    with contextlib.suppress(OSError):
        for path in folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError, ValueError, struct.error):
                found.append(_read(path))
    return sorted(found, key=lambda file: -file.used_s)


def remove(kept: KeptFile) -> None:
    """Remove a converted file; it is made again when it is wanted again.

    Raises:
        OSError: It cannot be removed, as on Windows while it is in use.
    """
    kept.path.unlink(missing_ok=True)


def told(component: str, precision: Precision, model: str, **more: Any) -> dict[str, str]:  # noqa: ANN401
    """What a converted file says about itself."""
    known = {"component": component, "precision": precision.value, "model": model}
    return {**known, **{name: str(value) for name, value in more.items()}}


def _read(path: Path) -> KeptFile:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER_BYTES:
            raise ValueError("no safetensors file")
        header = msgspec.json.decode(file.read(length), type=_Header)
    about = msgspec.convert(json.loads(header.metadata.headroom), _Told)
    stat = path.stat()
    return KeptFile(
        path=path,
        component=about.component,
        precision=about.precision,
        model=about.model,
        size_bytes=stat.st_size,
        used_s=stat.st_mtime,
    )
