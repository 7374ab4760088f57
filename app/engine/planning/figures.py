"""Figures and lists as they stand in sentences."""

import math
from collections.abc import Sequence

GB_BYTES = 1 << 30
"""As cards and RAM are sold: a card of 12 GB has 12 times 2**30 bytes."""


def gigabytes(size_bytes: int, *, up: bool = False) -> str:
    """A size with one decimal and without its unit: "9.1".

    Args:
        size_bytes: The size.
        up: Round up, for what is needed beside what there is.
    """
    tenths = size_bytes * 10 / GB_BYTES
    return f"{(math.ceil(tenths) if up else math.floor(tenths)) / 10:.1f}"


def size_text(width_px: int, height_px: int) -> str:
    """A picture's size: "1024 x 768 px"."""
    return f"{width_px} x {height_px} px"


def and_list(words: Sequence[str]) -> str:
    """Words as people list them: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
