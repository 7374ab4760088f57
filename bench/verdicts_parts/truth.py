"""What a described card is really like: what the networks do not say, as it may turn out.

None of this was measured. The terms are those that `app.engine.overheads` names, which the planner
reckons with as well; that they may be off by what the forecast says is what the variants try. What
the allocator keeps back is no figure at all here: its rules are carried out.
"""

from dataclasses import dataclass
from functools import lru_cache

from app.engine.overheads import CUBLAS_WORKSPACE, CUDA_CONTEXT, CUDNN_WORKSPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One way a card may be.

    Attributes:
        name: For tables.
        context_bytes: Of the process, before any tensor.
        product_bytes: Of the library for matrix products, from the first product on.
        convolution_bytes: Of the library for convolutions, while one runs.
        working_factor: Each tensor that is computed takes so much of what it should.
        growing: Whether the allocator's segments can grow.
    """

    name: str
    context_bytes: int = CUDA_CONTEXT.size_bytes
    product_bytes: int = CUBLAS_WORKSPACE.size_bytes
    convolution_bytes: int = CUDNN_WORKSPACE.size_bytes
    working_factor: float = 1.0
    growing: bool = True


def off_by(name: str, share: float, *, growing: bool) -> Truth:
    """A card on which all that the forecast doubts is more, or less, by a share."""
    usual = Truth(name=name)
    return Truth(
        name=name,
        context_bytes=round(usual.context_bytes * (1 + share)),
        product_bytes=round(usual.product_bytes * (1 + share)),
        convolution_bytes=round(usual.convolution_bytes * (1 + share)),
        working_factor=1 + share,
        growing=growing,
    )


SPREAD = 0.1
"""Doubt of a forecast that rests on no measured run (`Calibration.spread`)."""
USUAL = "usual"
MORE = "10 % more"
LESS = "10 % less"
NAMES = (USUAL, MORE, LESS)
"""What a plan must hold on: the usual card, and the forecast's doubt either way."""


@lru_cache
def truths_of(*, growing: bool) -> dict[str, Truth]:
    """By name, the ways a card may be on which a plan must hold.

    Args:
        growing: Whether the segments of torch's allocator can grow on it.
    """
    shares = dict(zip(NAMES, (0.0, SPREAD, -SPREAD), strict=True))
    return {name: off_by(name, share, growing=growing) for name, share in shares.items()}
