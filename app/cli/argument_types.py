"""What an argument may be, as argparse wants it: a function that takes its text."""

import argparse
import math
import re

from app.core.policy import MemoryMode, Precision, Precisions
from app.engine.planning.mode_words import MODE_WORDS

PRECISIONS = {
    "auto": Precision.AUTO,
    "bf16": Precision.BF16,
    "fp8": Precision.FP8,
    "int8": Precision.INT8,
    "4bit": Precision.NF4,
    "fp32": Precision.FP32,
}
"""As typed; 4 bits are also known by the name of their codes."""
_ALIASES = {"nf4": Precision.NF4}
_DEVICE = re.compile(r"auto|cpu|(cuda|xpu)(:\d{1,3})?")
MAX_WAIT_S = 3600.0
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


def waiting_seconds(text: str) -> float:
    """How long something may be waited for."""
    value = decimal(text)
    if not 0 <= value <= MAX_WAIT_S:
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is not from 0 to {MAX_WAIT_S:g} seconds")
    return value


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


def precision(text: str) -> Precision:
    """What weights are kept and run in."""
    found = PRECISIONS.get(text.lower()) or _ALIASES.get(text.lower())
    if found is None:
        known = ", ".join(PRECISIONS)
        raise argparse.ArgumentTypeError(f"“{text[:40]}” is no precision: choose one of {known}")
    return found


def memory_mode(text: str) -> MemoryMode:
    """How eagerly weights stay on the GPU."""
    for mode in MemoryMode:
        if mode.value == text.lower():
            return mode
    known = ", ".join(mode.value for mode in MemoryMode)
    raise argparse.ArgumentTypeError(f"“{text[:40]}” is no memory mode: choose one of {known}")


def add_weights(parser: argparse.ArgumentParser, *, otherwise: str) -> None:
    """Let a parser take `--precision` and `--memory`.

    Args:
        parser: Of a verb.
        otherwise: What holds when they are not typed.
    """
    parser.add_argument(
        "--precision",
        type=precision,
        metavar="P",
        help=f"of text encoder and transformer: {', '.join(PRECISIONS)} (default: {otherwise}; "
        "auto is as stored on the CPU and, on a GPU, bf16 where the weights have a place)",
    )
    parser.add_argument(
        "--memory",
        type=memory_mode,
        metavar="MODE",
        help="what stays in the GPU's memory: "
        + ", ".join(f"{mode.value} (“{words}”)" for mode, words in MODE_WORDS.items())
        + f" (default: {otherwise})",
    )


def precisions(found: Precision | None, base: Precisions) -> Precisions:
    """What one word for text encoder and transformer says beside what holds already.

    The autoencoder is small, and never quantized.
    """
    if found is None:
        return base
    plain = found in {Precision.FP32, Precision.BF16, Precision.AUTO}
    return Precisions(
        text_encoder=found,
        transformer=found,
        autoencoder=found if plain else base.autoencoder,
    )
