"""Figures and lists as they stand in sentences."""

import math
from collections.abc import Sequence

from app.core.units import GIB


def gigabytes(size_bytes: int, *, up: bool = False) -> str:
    """A size with one decimal and without its unit: "9.1".

    Args:
        size_bytes: The size.
        up: Round up instead of to the nearest, so that nobody frees too little.
    """
    tenths = size_bytes * 10 / GIB
    return f"{(math.ceil(tenths) if up else round(tenths)) / 10:.1f}"


def size_text(width_px: int, height_px: int) -> str:
    """A picture's size: "1024 × 768 px"."""
    return f"{width_px} × {height_px} px"


def and_list(words: Sequence[str]) -> str:
    """Words as people list them: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
