"""Prompt embeddings on the disk, so that a prompt that comes again never needs its encoder."""

import json
import logging
import struct
import zlib
from typing import Any

import safetensors.torch
import torch

from app.engine.cache_folder import CacheFolder
from app.engine.encoder_identity import prompt_key

log = logging.getLogger(__name__)

_NAME = "embeddings"
_CHECK = "crc32"
_LENGTH = struct.Struct("<Q")


class EmbeddingStore:
    """Embeddings of one encoder in safetensors files, one a prompt."""

    def __init__(self, folder: CacheFolder, identity: str) -> None:
        """Read nothing yet.

        Args:
            folder: Shared by all encoders.
            identity: Of this one; see `app.engine.encoder_identity`.
        """
        self._folder = folder
        self._identity = identity

    def get(self, prompt: str) -> torch.Tensor | None:
        """Embeddings (1, tokens, width) in RAM, or None; a file that is broken is removed."""
        key = prompt_key(self._identity, prompt)
        data = self._folder.read(key)
        if data is None:
            return None
        found = _unpacked(data)
        if found is None:
            log.info("kept embeddings %s are broken and removed", key)
            self._folder.remove(key)
        return found

    def put(self, prompt: str, embeddings: torch.Tensor) -> None:
        """Keep embeddings (1, tokens, width), unless a number among them is none."""
        if bool(torch.isfinite(embeddings).all()):
            self._folder.write(prompt_key(self._identity, prompt), _packed(embeddings))


def _packed(embeddings: torch.Tensor) -> bytes:
    tensor = embeddings.detach().to("cpu").contiguous()
    return safetensors.torch.save({_NAME: tensor}, metadata={_CHECK: _check_of(tensor)})


def _unpacked(data: bytes) -> torch.Tensor | None:
    try:
        tensor = safetensors.torch.load(data)[_NAME]
        (length,) = _LENGTH.unpack_from(data)
        header: Any = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        check = header["__metadata__"][_CHECK]
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, struct.error) as error:
        log.info("not the embeddings of a prompt: %s", error)
        return None
    sound = tensor.ndim == 3 and len(tensor) == 1 and _check_of(tensor) == check
    return tensor if sound else None


def _check_of(tensor: torch.Tensor) -> str:
    """Of every byte: a disk's mistake in the middle of a file would be a picture's."""
    content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {tensor.dtype} {zlib.crc32(content)}"
