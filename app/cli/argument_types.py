"""What an argument may be, as argparse wants it: a function that takes its text."""

import argparse
import math
import re

_DEVICE = re.compile(r"auto|cpu|(cuda|xpu)(:\d{1,3})?")
MAX_GIB = 65536.0
"""64 TiB: more memory than any machine this runs on."""


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not a whole number") from None


def decimal(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not a number") from None


def gibibytes(text: str) -> float:
    """An amount of memory in GB of 2**30 bytes, which may be 0."""
    value = decimal(text)
    if not math.isfinite(value) or not 0 <= value <= MAX_GIB:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not from 0 to {MAX_GIB:g} GB")
    return value


def memory_size(text: str) -> float:
    """How much memory there is, in GB of 2**30 bytes."""
    value = gibibytes(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” GB are no memory: give more than 0")
    return value


def device(text: str) -> str:
    """The engine's device, as torch names it."""
    if _DEVICE.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"“{text[:40]}” is no device: choose auto, cpu, cuda, cuda:1, xpu or the like"
        )
    return text
