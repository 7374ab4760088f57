"""The largest of several linear functions: how memory grows with a request.

At each moment of a network's run the bytes that live are a sum of tensors, and each tensor's size
is a product of counts. So each moment is a linear function of a few such products, and the peak is
the largest of the moments: a handful of lines, evaluated in microseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The largest of several linear functions of named products of counts.

    Attributes:
        terms: What the functions are linear in, such as "images*tokens"; "1" is the constant.
        lines: One function each: a factor for each term.
    """

    terms: tuple[str, ...]
    lines: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated.

        Raises:
            ValueError: There is no line, or a line has another number of factors than terms.
        """
        if not self.lines or any(len(line) != len(self.terms) for line in self.lines):
            raise ValueError("each line needs a factor for each term")

    def at(self, counts: dict[str, float]) -> int:
        """The value for these counts, rounded up.

        Args:
            counts: Each count that the terms name.
        """
        values = values_of(self.terms, counts)
        best = max(sum(map(_product, line, values)) for line in self.lines)
        return max(0, math.ceil(best))


def values_of(terms: Sequence[str], counts: dict[str, float]) -> list[float]:
    """The value of each term for these counts."""
    return [_term(term, counts) for term in terms]


def _product(factor: float, value: float) -> float:
    return factor * value


def _term(term: str, counts: dict[str, float]) -> float:
    value = 1.0
    for name in term.split("*"):
        if name != "1":
            value *= counts[name]
    return value
