"""What quantized layers read and write beside their products, which a card's memory limits.

Counted in the engine's code (`app.engine.quantize.native`, `.formats`), operation by operation.
"""

from dataclasses import dataclass

from app.core.request import MAX_PROMPT_TOKENS
from app.engine.planning.components import TRANSFORMER
from bench.residency_parts.work import coefficients_of, tokens_of, transformer_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Bytes of traffic.

    Attributes:
        per_input: For each number that a layer takes.
        per_result: For each number that it gives.
        per_weight: For each weight.
    """

    per_input: float = 0.0
    per_result: float = 0.0
    per_weight: float = 0.0


PLAIN = Passes()
IN_FP8 = Passes(per_input=5)
"""The largest of each token is sought (2), then it is divided and rounded (2 + 1)."""
IN_INT8 = Passes(per_input=21, per_result=18)
"""Divided (2 + 4), rounded (4 + 4) and made integers (4 + 1); sums (4), scaled twice (8 + 6)."""
ROWS_TURNED = Passes(per_weight=7)
"""Codes of 8 bits to bf16 (1 + 2), and times their scales (2 + 2)."""
NF4_TURNED = Passes(per_weight=10.5)
"""For a byte, which holds two: an index is made (1 + 4), looked up (4 + 4), scaled (4 + 4)."""


def bytes_around(model: str, size_px: int, passes: Passes) -> list[float]:
    """Of each block of the transformer, in the order they run.

    Double blocks have a set of layers for the picture and one as large for the prompt.
    """
    network = coefficients_of(model).networks[TRANSFORMER]
    doubles = int(transformer_config(model)["num_layers"])
    sequence = tokens_of(size_px) + MAX_PROMPT_TOKENS
    found: list[float] = []
    for index, kind in enumerate(network.blocks):
        tokens = sequence / (2 if index < doubles else 1)
        sizes = [
            count
            * (
                tokens * (columns * passes.per_input + rows * passes.per_result)
                + rows * columns * passes.per_weight
            )
            for rows, columns, count in network.kinds[kind].matrices
        ]
        found.append(sum(sizes))
    return found
