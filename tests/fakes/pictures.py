"""Picture files for tests: smooth colours, different for each seed."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(width_px: int, height_px: int, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Colours that change from edge to edge, so that turning and cutting shows."""
    across, down = np.meshgrid(np.linspace(0, 1, width_px), np.linspace(0, 1, height_px))
    shift = (seed % 7) / 7
    channels = [across, down, (across * down + shift) % 1.0]
    rgb = (np.stack(channels, axis=-1) * 255).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def picture_file(path: Path, width_px: int, height_px: int, *, seed: int = 0, **save: Any) -> str:
    """The path of a new picture in the format its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width_px, height_px, seed=seed).save(path, **save)
    return str(path)
