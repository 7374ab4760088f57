"""Converted files and kept prompts on the disk, as the engine leaves them; no torch."""

import json
import os
import struct
from pathlib import Path

from app.core.policy import Precision
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import told

KLEIN = "FLUX.2 klein 4B"


def make_converted(
    folder: Path,
    precision: Precision,
    *,
    model: str = KLEIN,
    component: str = "transformer",
    data_bytes: int = 1000,
    used_s: float = 1000.0,
) -> Path:
    """A file with the header of a converted one."""
    metadata = {"headroom": json.dumps(told(component, precision, model))}
    header = json.dumps({"__metadata__": metadata}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{component}-{precision.value}-{len(list(folder.iterdir()))}.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(data_bytes))
    os.utime(path, (used_s, used_s))
    return path


def keep_prompt(folder: Path, *, size_bytes: int = 2048) -> None:
    """One more prompt's file."""
    count = len(list(folder.iterdir())) if folder.is_dir() else 0
    assert prompt_folder(folder).write(f"prompt-{count}", bytes(size_bytes))
