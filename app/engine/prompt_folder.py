"""Where embeddings of prompts are kept; needs no torch."""

from pathlib import Path

from app.engine.cache_folder import CacheFolder

CAPACITY_BYTES = 1 << 30
"""Sixty-four prompts of dev in bf16, over a hundred of klein."""
SUFFIX = ".safetensors"


def prompt_folder(folder: Path) -> CacheFolder:
    """The kept embeddings in a folder, shared by all encoders.

    Args:
        folder: `AppPaths.embeddings_folder`.
    """
    return CacheFolder(folder, suffix=SUFFIX, capacity_bytes=CAPACITY_BYTES)
