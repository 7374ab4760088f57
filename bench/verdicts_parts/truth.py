"""What a described card is really like: what the networks do not say, as it may turn out.

None of this was measured. The terms are those that `app.engine.overheads` names, which the planner
reckons with as well; that they may be off by what the forecast says is what the variants try. What
the allocator keeps back is no figure at all here: its rules are carried out.
"""

from dataclasses import dataclass

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
        expandable: How torch's allocator takes memory from the driver.
    """

    name: str
    context_bytes: int = CUDA_CONTEXT.size_bytes
    product_bytes: int = CUBLAS_WORKSPACE.size_bytes
    convolution_bytes: int = CUDNN_WORKSPACE.size_bytes
    working_factor: float = 1.0
    expandable: bool = True


def off_by(name: str, share: float, *, expandable: bool = True) -> Truth:
    """A card on which all that the forecast doubts is more, or less, by a share."""
    usual = Truth(name=name)
    return Truth(
        name=name,
        context_bytes=round(usual.context_bytes * (1 + share)),
        product_bytes=round(usual.product_bytes * (1 + share)),
        convolution_bytes=round(usual.convolution_bytes * (1 + share)),
        working_factor=1 + share,
        expandable=expandable,
    )


SPREAD = 0.1
"""Doubt of a forecast that rests on no measured run (`Calibration.spread`)."""
USUAL = off_by("usual", 0.0)
CLASSIC = off_by("usual, segments", 0.0, expandable=False)
MORE = off_by("10 % more", SPREAD)
MORE_CLASSIC = off_by("10 % more, segments", SPREAD, expandable=False)
LESS = off_by("10 % less", -SPREAD)
TRUTHS = (USUAL, CLASSIC, MORE, MORE_CLASSIC, LESS)
