"""`--attention`: what computes attention, by name."""

import argparse

from app.core.policy import Attention

_NAMES = tuple(kind.value for kind in Attention)


def attention(text: str) -> Attention:
    """A kind of attention."""
    name = text.strip().lower()
    if name not in _NAMES:
        raise argparse.ArgumentTypeError(
            f"“{text[:40]}” is no kind of attention: choose one of {', '.join(_NAMES)}"
        )
    return Attention(name)


def add_attention(parser: argparse.ArgumentParser) -> None:
    """Let a parser take `--attention`."""
    parser.add_argument(
        "--attention",
        type=attention,
        metavar="KIND",
        help=f"what computes attention: {', '.join(_NAMES)}; what does not work here is replaced, "
        "and told (default: the preset's; auto is the fastest that a trial on this GPU found)",
    )
