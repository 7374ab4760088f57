"""What a prompt's embeddings depend on beside the prompt, as one short text."""

import functools
import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.request import MAX_PROMPT_TOKENS
from app.engine.model_folder import ModelInfo
from app.engine.safetensors_header import MAX_HEADER_BYTES

FORMAT = 2
"""Another number makes all embeddings that were kept before worthless."""
_LENGTH = struct.Struct("<Q")
_WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "_File":
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)


def encoder_identity(info: ModelInfo, *, runs_as: Iterable[str], quick: bool = False) -> str:
    """The same text only where the same prompt has the same embeddings, bit for bit.

    Weights are told by their files' names, sizes, times and headers; the tokenizer, with its
    chat template, by its files' content.

    Args:
        info: Of the model.
        runs_as: How the encoder runs: precisions, device, versions of libraries.
        quick: Whether files of the same size and time as before are not read again: for plans,
            which are made at each keystroke.

    Raises:
        OSError: A file cannot be read.
    """
    layers = ",".join(str(layer) for layer in info.text_out_layers)
    texts = (str(FORMAT), info.family.value, str(MAX_PROMPT_TOKENS), layers, *runs_as)
    tokenizer, encoder = _files_of(info)
    files = (_known_digest if quick else _files_digest)(tokenizer, encoder)
    return _digest((*(text.encode() for text in texts), files.encode()))


def prompt_key(identity: str, prompt: str) -> str:
    """The name of a prompt's embeddings: of no use to who wants to know the prompt."""
    return _digest((identity.encode(), prompt.encode("utf-8", "surrogatepass")))


def _files_of(info: ModelInfo) -> tuple[tuple[_File, ...], tuple[_File, ...]]:
    """Those whose content counts, and those of the encoder itself."""
    index = info.folder / "model_index.json"
    tokenizer = (index, *_files(info.folder / "tokenizer"))
    encoder = _files(info.folder / "text_encoder")
    return tuple(map(_File.of, tokenizer)), tuple(map(_File.of, encoder))


def _files_digest(tokenizer: tuple[_File, ...], encoder: tuple[_File, ...]) -> str:
    return _digest(_parts(tokenizer, encoder))


_known_digest = functools.lru_cache(maxsize=16)(_files_digest)


def _parts(tokenizer: Iterable[_File], encoder: Iterable[_File]) -> Iterator[bytes]:
    for file in tokenizer:
        yield file.path.name.encode()
        yield file.path.read_bytes()
    for file in encoder:
        yield f"{file.path.name} {file.size_bytes} {file.changed_ns}".encode()
        yield _header(file.path) if file.path.suffix == _WEIGHTS else file.path.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # With its length, so that nothing can move from one part into the next.
        digest.update(_LENGTH.pack(len(part)))
        digest.update(part)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file())


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            return start
        (length,) = _LENGTH.unpack(start)
        return file.read(min(length, MAX_HEADER_BYTES))
