"""Lines through dry runs: exact at each moment, then as few as it takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.engine.forecast.dry_run import Measured
from app.engine.lines import Lines, values_of

Floats = npt.NDArray[np.float64]
Point = tuple[dict[str, float], Measured]
"""Counts, and what the dry run gave for them."""
_TOLERANCE = 2e-4
"""A moment's line is left out if the others come this near to it everywhere."""


def fit_peak(
    terms: Sequence[str], points: Sequence[Point], domain: Sequence[dict[str, float]]
) -> Lines:
    """The lines whose largest is the peak.

    At each operation of a network the live bytes are linear in the terms, so a line through the
    points is exact but for the rounding of allocations; points with other operations get lines of
    their own. Of all these lines only those are kept that are the largest somewhere.

    Args:
        terms: Products of counts that sizes are made of.
        points: Dry runs; for each number of operations enough to determine a line.
        domain: Counts for which the lines are to be right.
    """
    groups: dict[int, list[Point]] = {}
    for point in points:
        groups.setdefault(len(point[1].moments), []).append(point)
    found = [_lines_of(terms, group) for group in groups.values()]
    lines = np.concatenate([part for part in found if part is not None])
    kept = lines[_upper(lines, _matrix(terms, domain))]
    inputs = _matrix(terms, [counts for counts, _measured in points])
    peaks = np.array([measured.working_bytes for _counts, measured in points], dtype=np.float64)
    # What rounding hides: no point may lie above the lines.
    kept[:, list(terms).index("1")] += max(0.0, float((peaks - (inputs @ kept.T).max(1)).max()))
    return _as_lines(terms, kept)


def fit_flops(terms: Sequence[str], points: Sequence[Point]) -> Lines:
    """The one function that counts operations."""
    inputs = _matrix(terms, [counts for counts, _measured in points])
    flops = np.array([measured.flops for _counts, measured in points], dtype=np.float64)
    return _as_lines(terms, _solve(inputs, flops[:, None]).T)


def fit_above(terms: Sequence[str], points: Sequence[tuple[dict[str, float], int]]) -> Lines:
    """Two lines above some values: what it never is less than, and what it grows by.

    Args:
        terms: "1", what it grows with, and what it grows by where it grows: bytes as they are, of
            which there is no line, such as of a piece that stays as it is when it is full.
        points: Counts and values, of small counts as well as of large ones.
    """
    inputs = _matrix(terms, [counts for counts, _value in points])
    values = np.array([value for _counts, value in points], dtype=np.float64)
    order = inputs[:, 1].argsort()
    half = order[len(order) // 2 :]
    growing = np.ones(len(terms))
    rest = values - inputs[:, 2:].sum(axis=1)
    growing[:2] = np.maximum(_solve(inputs[half, :2], rest[half, None])[:, 0], 0.0)
    constant = np.zeros(len(terms))
    constant[0] = values[order[0]]
    lines = np.stack([constant, growing])
    lines[:, 0] += max(0.0, float((values - (inputs @ lines.T).max(1)).max()))
    return _as_lines(terms, lines)


def _lines_of(terms: Sequence[str], points: Sequence[Point]) -> Floats | None:
    """A line for each moment, (moments, terms), or None if the points do not determine them."""
    inputs = _matrix(terms, [counts for counts, _measured in points])
    used = inputs[:, inputs.any(axis=0)]
    # Counts of one kind are nearly proportional to one another: one at least must not be.
    if np.linalg.matrix_rank(used / used.max(axis=0), tol=1e-6) < used.shape[1]:
        return None
    moments = np.array([measured.moments for _counts, measured in points], dtype=np.float64)
    # Moments that are never near the peak need no line.
    moments = np.unique(moments, axis=1)
    return _solve(inputs, moments).T


def _solve(inputs: Floats, values: Floats) -> Floats:
    """Least squares; columns are scaled, for counts differ by many orders of magnitude."""
    scale = np.abs(inputs).max(axis=0)
    scale[scale == 0] = 1.0
    # Relative to the values, so that small sizes are as exact as large ones.
    weight = 1.0 / np.maximum(np.abs(values).max(axis=1), 1.0)
    linalg: Any = np.linalg  # What it returns has no type.
    solved = linalg.lstsq(inputs / scale * weight[:, None], values * weight[:, None], rcond=None)
    coefficients: Floats = solved[0]
    return coefficients / scale[:, None]


def _upper(lines: Floats, inputs: Floats) -> list[int]:
    """Indices of lines that together come near the largest of all everywhere in the domain."""
    values = inputs @ lines.T  # (points, lines)
    best = values.max(axis=1)
    reached = np.zeros_like(best)
    kept: list[int] = []
    while True:
        missing = (best - reached) / best
        worst = int(missing.argmax())
        if missing[worst] <= _TOLERANCE:
            return kept
        line = int(values[worst].argmax())
        kept.append(line)
        reached = np.maximum(reached, values[:, line])


def _matrix(terms: Sequence[str], points: Sequence[dict[str, float]]) -> Floats:
    return np.array([values_of(terms, counts) for counts in points], dtype=np.float64)


def _as_lines(terms: Sequence[str], lines: Floats) -> Lines:
    return Lines(
        terms=tuple(terms),
        lines=tuple(tuple(round(float(factor), 3) + 0.0 for factor in line) for line in lines),
    )
