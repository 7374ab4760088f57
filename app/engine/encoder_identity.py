"""What a prompt's embeddings depend on beside the prompt, as one short text."""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.core.request import MAX_PROMPT_TOKENS
from app.engine.model_folder import ModelInfo
from app.engine.safetensors_header import MAX_HEADER_BYTES

FORMAT = 1
"""Another number makes all embeddings that were kept before worthless."""
_LENGTH = struct.Struct("<Q")
_WEIGHTS = ".safetensors"


def encoder_identity(info: ModelInfo, *, runs_as: Iterable[str]) -> str:
    """The same text only where the same prompt has the same embeddings, bit for bit.

    Weights are told by their files' names, sizes, times and headers; the tokenizer, with its
    chat template, by its files' content.

    Args:
        info: Of the model.
        runs_as: How the encoder runs: precisions, device, versions of libraries.

    Raises:
        OSError: A file cannot be read.
    """
    return _digest(_parts(info, runs_as))


def prompt_key(identity: str, prompt: str) -> str:
    """The name of a prompt's embeddings: of no use to who wants to know the prompt."""
    return _digest((identity.encode(), prompt.encode("utf-8", "surrogatepass")))


def _parts(info: ModelInfo, runs_as: Iterable[str]) -> Iterator[bytes]:
    layers = ",".join(str(layer) for layer in info.text_out_layers)
    for text in (str(FORMAT), info.family.value, str(MAX_PROMPT_TOKENS), layers, *runs_as):
        yield text.encode()
    for path in (info.folder / "model_index.json", *_files(info.folder / "tokenizer")):
        yield path.name.encode()
        yield path.read_bytes()
    for path in _files(info.folder / "text_encoder"):
        stat = path.stat()
        yield f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode()
        yield _header(path) if path.suffix == _WEIGHTS else path.read_bytes()


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
