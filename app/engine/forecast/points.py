"""Which requests are dry-run to fit the coefficients, and for which the fit is to be right."""

import random
from collections.abc import Callable

from app.core.policy import Attention, Precision
from app.core.request import MAX_PROMPT_TOKENS, MAX_SIZE_PX
from app.engine.request_counts import PATCH_PX, SUMS

Size = tuple[int, int]
"""Width and height in pixels."""
DenoisePoint = tuple[int, Size, tuple[Size, ...]]
"""Images, their size, sizes of reference images."""

DENOISE_FLOP_TERMS = ("images", "images*sequence", "images*sequence*sequence")
DECODE_TERMS = ("1", "images", "images*tokens", "images*edge")
DECODE_FLOP_TERMS = ("images", "images*tokens", "images*tokens*tokens")
REFERENCE_TERMS = ("1", "tokens", "edge")
REFERENCE_FLOP_TERMS = ("1", "tokens", "tokens*tokens")

DENOISE: dict[str, tuple[tuple[str, ...], tuple[DenoisePoint, ...]]] = {
    "one": (
        ("1", "tokens"),
        ((1, (64, 64), ()), (1, (592, 1104), ()), (1, (2048, 2048), ())),
    ),
    "several": (
        ("1", "images", "tokens", "images*tokens"),
        (
            (2, (64, 64), ()),
            (3, (256, 512), ()),
            (5, (592, 1104), ()),
            (2, (1024, 1024), ()),
            (2, (2048, 2048), ()),
        ),
    ),
    "one with references": (
        ("1", "tokens", "reference_tokens"),
        (
            (1, (64, 64), ((64, 64),)),
            (1, (64, 64), ((512, 512), (512, 512))),
            (1, (592, 1104), ((512, 512),)),
            (1, (1536, 1536), ((768, 512),)),
        ),
    ),
    "several with references": (
        (
            "1",
            "images",
            "tokens",
            "images*tokens",
            "reference_tokens",
            "images*reference_tokens",
        ),
        (
            (2, (64, 64), ((64, 64),)),
            (2, (64, 64), ((512, 512),)),
            (3, (256, 512), ((512, 512), (768, 512))),
            (2, (1024, 1024), ((256, 256),)),
            (5, (592, 1104), ((512, 256), (512, 512), (64, 64))),
            (2, (1536, 1536), ((512, 512),)),
            (7, (64, 1024), ((1024, 512),)),
        ),
    ),
}
"""By `denoise_case`: terms, and enough requests to determine a factor for each."""
ATTENTION_TERMS = {Attention.MATH: "sequence*sequence", Attention.CHUNKED: "chunk"}
"""Kinds of attention that need another amount than the others, and what it grows with."""
MORE_FOR_ATTENTION: dict[str, tuple[DenoisePoint, ...]] = {
    "one": ((1, (512, 768), ()),),
    "several": ((4, (512, 768), ()),),
    "one with references": ((1, (512, 768), ((768, 768),)),),
    "several with references": (
        (4, (768, 512), ((768, 768),)),
        (3, (1024, 1024), ((1024, 512),)),
    ),
}
"""By `denoise_case`: requests to determine the factor of one more term."""
QUANTIZED_TERMS = {
    Precision.FP8: ("1", "images*sequence"),
    Precision.INT8: ("1", "images*sequence", SUMS),
    Precision.NF4: ("1", "images*sequence"),
}
"""What they grow with by factors of their own, and then what is counted as it is."""
QUANTIZED: tuple[DenoisePoint, ...] = (
    (1, (64, 64), ()),
    (1, (512, 512), ()),
    (1, (1024, 1024), ()),
    (2, (1024, 1024), ()),
    (1, (2048, 2048), ()),
    (4, (2048, 2048), ()),
)
FLOPS: tuple[DenoisePoint, ...] = ((1, (64, 64), ()), (1, (592, 1104), ()), (1, (2048, 2048), ()))
DECODE: tuple[tuple[int, Size], ...] = (
    (2, (64, 64)),
    (3, (256, 512)),
    (2, (1024, 1024)),
    (4, (592, 1104)),
    (3, (1536, 64)),
    (2, (2048, 2048)),
    (5, (512, 512)),
    (1, (64, 64)),
    (1, (1024, 1024)),
)
REFERENCE: tuple[Size, ...] = (
    (64, 64),
    (256, 512),
    (1024, 1024),
    (592, 1104),
    (512, 512),
    (1280, 800),
)
_DOMAIN_POINTS = 3000
_REFERENCE_EDGE = 128
"""Tokens along the longer edge of a reference image of a megapixel, one to four."""


def denoise_domain() -> list[dict[str, float]]:
    """Counts of requests of all sizes."""

    def pick(choice: random.Random) -> dict[str, float]:
        tokens = _edge(choice) * _edge(choice)
        references = choice.choice((0, 0, 16, 1024, 4096, 12288, 40960))
        return {
            "images": choice.choice((1, 2, 3, 4, 8, 64)),
            "tokens": tokens,
            "reference_tokens": references,
            "sequence": MAX_PROMPT_TOKENS + tokens + references,
        }

    return _domain(pick)


def decode_domain() -> list[dict[str, float]]:
    """Counts of pictures of all sizes."""

    def pick(choice: random.Random) -> dict[str, float]:
        rows, columns = _edge(choice), _edge(choice)
        images = choice.choice((1, 2, 4, 8, 64))
        return {"images": images, "tokens": rows * columns, "edge": rows + columns}

    return _domain(pick)


def reference_domain() -> list[dict[str, float]]:
    """Counts of reference images, which have a megapixel at most."""

    def pick(choice: random.Random) -> dict[str, float]:
        rows = choice.randint(4, _REFERENCE_EDGE)
        columns = choice.randint(4, max(4, 4096 // rows))
        return {"images": 1, "tokens": rows * columns, "edge": rows + columns}

    return _domain(pick)


def _domain(pick: Callable[[random.Random], dict[str, float]]) -> list[dict[str, float]]:
    choice = random.Random(0)
    return [pick(choice) for _ in range(_DOMAIN_POINTS)]


def _edge(choice: random.Random) -> int:
    """Tokens along an edge, as many small ones as large ones."""
    largest = MAX_SIZE_PX // PATCH_PX
    return round(4 * (largest / 4) ** choice.random())
