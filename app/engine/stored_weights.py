"""The tensors in a component's safetensors files: where they lie, and mapped into memory."""

import mmap
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from app.core.errors import ModelError
from app.engine.safetensors_header import read_header

Stored = Mapping[str, "StoredTensor"]
"""Tensors by name."""
CHECK_BYTES = 8 << 20
"""Stretches of a tensor that have a checksum of their own, from its begin."""


class DamagedFileError(ModelError):
    """What a file holds is not what was written into it, or it is gone.

    Attributes:
        path: Of the file, which was made here, and can be made again.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The converted weights in {path} are damaged or gone, also after they were made "
            "again: check the disk, or choose full precision.",
            code="model.damaged_conversion",
        )
        self.path = path


def checksum(content: memoryview, before: int = 0) -> int:
    """Of some bytes, and of those before them; see `StoredTensor.checks`."""
    return zlib.crc32(content, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        path: Of the file.
        offset_bytes: Where it begins in the file.
        nbytes: Of its elements.
        dtype: Of its elements.
        shape: Dimensions.
        checks: Checksum of each stretch of `CHECK_BYTES`; empty where none are known.
    """

    path: Path
    offset_bytes: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    checks: tuple[int, ...] = ()


def stored_tensors(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """All tensors of some files; only the headers are read.

    Raises:
        ModelError: A file is broken, or holds a type that this torch does not have.
    """
    found: dict[str, StoredTensor] = {}
    for path in files:
        for name, entry in read_header(path).items():
            dtype = getattr(torch, entry.dtype, None)
            if not isinstance(dtype, torch.dtype):
                raise ModelError(
                    f"The weights file {path} holds {entry.dtype} numbers, which this installation "
                    "cannot read: use the model's bf16 folder.",
                    code="model.unknown_config",
                    details=name,
                )
            found[name] = StoredTensor(
                path=path,
                offset_bytes=entry.offset_bytes,
                nbytes=entry.size_bytes,
                dtype=dtype,
                shape=entry.shape,
            )
    return found


class MappedFiles:
    """Weights files as read-only memory: what is not looked at takes no RAM.

    What the system has read of them it may forget again at any time. Writing into such a tensor
    would end the process; weights are never written to.
    """

    def __init__(self) -> None:
        self._whole: dict[Path, torch.Tensor] = {}

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """A tensor of a file; its memory stays mapped as long as a tensor of the file is used.

        Raises:
            DamagedFileError: A file that has checksums cannot be mapped, or has become shorter.
            OSError: Another cannot be mapped.
        """
        if stored.nbytes == 0:
            return torch.empty(stored.shape, dtype=stored.dtype)
        flat = self.raw(stored)
        if stored.offset_bytes % stored.dtype.itemsize:
            # A file may have tensors of one byte an element before it: no place for a larger one.
            flat = flat.clone()
        return flat.view(stored.dtype).view(stored.shape)

    def raw(self, stored: StoredTensor) -> torch.Tensor:
        """The bytes of a tensor that has any; see `tensor`.

        Raises:
            DamagedFileError: A file that has checksums cannot be mapped, or has become shorter.
            OSError: Another cannot be mapped.
        """
        try:
            whole = self._file(stored.path)
        # ValueError: it is empty.
        except (OSError, ValueError) as error:
            if stored.checks:
                raise DamagedFileError(stored.path) from error
            raise
        found = whole[stored.offset_bytes : stored.offset_bytes + stored.nbytes]
        if stored.checks and len(found) != stored.nbytes:
            raise DamagedFileError(stored.path)
        return found

    def _file(self, path: Path) -> torch.Tensor:
        if path not in self._whole:
            with path.open("rb") as file:
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with warnings.catch_warnings():
                # Torch says that writing there would be an error: it would be.
                warnings.filterwarnings("ignore", message="The given buffer is not writable")
                self._whole[path] = torch.frombuffer(memory, dtype=torch.uint8)
        return self._whole[path]
