"""What it takes to turn GGUF blocks back into numbers; needs no torch.

Weights are turned back in pieces of some rows (`app.engine.quantize.gguf_linear`), by a row of
operations on tensors of the piece's size: how many of them live at once depends on the kind of
blocks, and neither on the picture nor on the model.
"""

from collections.abc import Iterable

BYTES_PER_WEIGHT = {
    "Q8_0": 2.07,
    "Q4_0": 3.07,
    "Q4_1": 5.13,
    "Q4_K": 5.2,
    "Q6_K": 5.26,
    "Q2_K": 5.27,
    "Q3_K": 5.33,
    "Q5_K": 7.2,
    "Q5_0": 10.07,
    "Q5_1": 10.13,
    "IQ4_NL": 12.07,
    "IQ4_XS": 12.23,
}
"""Of working memory beside a plain layer's, from dry runs of diffusers' functions in bf16; in fp32
pieces have half as many weights, and need less. A test runs them again."""
PIECE_WEIGHTS = 16 << 20
"""At most in a piece: 32 MB of bf16."""


def bytes_per_weight(kinds: Iterable[str]) -> float:
    """Of the kind in a file that needs most; 0 where none is a kind of GGUF."""
    return max((BYTES_PER_WEIGHT.get(kind, 0.0) for kind in kinds), default=0.0)


def turning_bytes(per_weight: float, largest_matrix: int) -> int:
    """Working memory for the layers of a network.

    Args:
        per_weight: See `bytes_per_weight`.
        largest_matrix: Weights of its largest layer.
    """
    return int(per_weight * min(PIECE_WEIGHTS, largest_matrix))
