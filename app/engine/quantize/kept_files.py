"""Converted files that are kept: which there are, how large, and removing them; needs no torch."""

import contextlib
import functools
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from app.core.policy import Precision
from app.engine.quantize.recipe import FORMAT_VERSION
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
        sources: Name and size of each file that it was made of; empty where it does not tell.
        format: Of what is in it; see `app.engine.quantize.recipe`.
    """

    path: Path
    component: str
    precision: Precision
    model: str
    size_bytes: int
    used_s: float
    sources: tuple[tuple[str, int], ...] = ()
    format: int = FORMAT_VERSION

    def made_of(self, folder: Path) -> bool:
        """Whether a component's folder holds files of the same names and sizes; none is read."""
        try:
            return all((folder / name).stat().st_size == size for name, size in self.sources)
        except OSError:
            return False


class _Told(msgspec.Struct, frozen=True):
    component: str
    precision: Precision
    model: str = ""
    sources: str = ""
    format: str = str(FORMAT_VERSION)


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


def remove_outdated(folder: Path) -> None:
    """Remove files of another format: nothing opens them any more, and they are large."""
    for kept in kept_files(folder):
        if kept.format < FORMAT_VERSION:
            with contextlib.suppress(OSError):
                remove(kept)


def told(component: str, precision: Precision, model: str, **more: Any) -> dict[str, str]:  # noqa: ANN401
    """What a converted file says about itself."""
    known = {"component": component, "precision": precision.value, "model": model}
    return {**known, **{name: str(value) for name, value in more.items()}}


def sources_text(paths: Iterable[Path]) -> str:
    """Names and sizes of files, as a converted file tells them.

    Raises:
        OSError: A file is not there.
    """
    return json.dumps(sorted((path.name, path.stat().st_size) for path in set(paths)))


def _read(path: Path) -> KeptFile:
    stat = path.stat()
    return replace(_read_once(path, stat.st_size, stat.st_mtime_ns), used_s=stat.st_mtime)


@functools.lru_cache(maxsize=64)
def _read_once(path: Path, size_bytes: int, _changed_ns: int) -> KeptFile:
    """Once for a file that stays as it is: plans ask at each keystroke."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER_BYTES:
            raise ValueError("no safetensors file")
        header = msgspec.json.decode(file.read(length), type=_Header)
    about = msgspec.convert(json.loads(header.metadata.headroom), _Told)
    sources = msgspec.json.decode(about.sources or "[]", type=tuple[tuple[str, int], ...])
    return KeptFile(
        path=path,
        component=about.component,
        precision=about.precision,
        model=about.model,
        size_bytes=size_bytes,
        used_s=0.0,
        sources=sources,
        format=int(about.format),
    )
