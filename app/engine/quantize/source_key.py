"""A short name for the content of large files, from their headers and samples; needs no torch."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_SAMPLES = 256
_SAMPLE_BYTES = 1 << 14
"""4 MiB of each file: another model, or another training of one, differs in every layer."""
_HEAD_BYTES = 1 << 20


def source_key(files: Iterable[Path]) -> str:
    """The same for the same content, wherever it lies and whenever it was written.

    Reading all of a large model would take longer than opening what was made of it.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.name):
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}:{size_bytes};".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HEAD_BYTES))
            stride = max(size_bytes // _SAMPLES, _SAMPLE_BYTES)
            for begin in range(_HEAD_BYTES, size_bytes, stride):
                file.seek(begin)
                digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(size_bytes - _SAMPLE_BYTES, 0))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]
