"""Turns values over time into polygons in pixels, all points at once."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QPolygonF

# pyqtgraph comes without types; what is used of it here is two functions.
_functions: Any = importlib.import_module("pyqtgraph.functions")

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """From seconds and bytes to pixels of a plot, y downwards.

    Attributes:
        left_s: Time at the left edge, on the monotonic clock.
        span_s: From the left edge to where the gutter begins.
        plot_width_px: The same in pixels.
        top_bytes: Value at the upper edge.
        height_px: Of the plot.
    """

    left_s: float
    span_s: float
    plot_width_px: float
    top_bytes: float
    height_px: float

    def x_px(self, time_s: float) -> float:
        """Where this time is."""
        return (time_s - self.left_s) / self.span_s * self.plot_width_px

    def y_px(self, value_bytes: float) -> float:
        """Where this value is."""
        return self.height_px * (1.0 - value_bytes / self.top_bytes)

    def time_s(self, x_px: float) -> float:
        """Which time is here."""
        return self.left_s + x_px / self.plot_width_px * self.span_s

    def xs_px(self, times_s: Points) -> Points:
        """Where these times are."""
        return (times_s - self.left_s) * (self.plot_width_px / self.span_s)

    def ys_px(self, values_bytes: Points) -> Points:
        """Where these values are; those that nobody told are at zero."""
        return self.height_px - np.fmax(values_bytes, 0.0) * (self.height_px / self.top_bytes)


def as_points(values: memoryview) -> Points:
    """The numbers of a recording, without copying them."""
    return np.frombuffer(values, dtype=np.float64)


def polygon(xs: Points, ys: Points) -> QPolygonF:
    """An open line through points in pixels."""
    made: QPolygonF = _functions.create_qpolygonf(len(xs))
    points: Points = _functions.ndarray_from_qpolygonf(made)
    points[:, 0] = xs
    points[:, 1] = ys
    return made


def area(xs: Points, upper: Points, lower: Points) -> QPolygonF:
    """The outline of what lies between two lines."""
    count = len(xs)
    made: QPolygonF = _functions.create_qpolygonf(2 * count)
    points: Points = _functions.ndarray_from_qpolygonf(made)
    points[:count, 0] = xs
    points[count:, 0] = xs[::-1]
    points[:count, 1] = upper
    points[count:, 1] = lower[::-1]
    return made


def area_above(xs: Points, upper: Points, floor_px: float) -> QPolygonF:
    """The outline of what lies between a line and a height below it."""
    made: QPolygonF = _functions.create_qpolygonf(len(xs) + 2)
    points: Points = _functions.ndarray_from_qpolygonf(made)
    points[:-2, 0] = xs
    points[:-2, 1] = upper
    points[-2] = (xs[-1], floor_px)
    points[-1] = (xs[0], floor_px)
    return made


def row_at(times_s: Points, time_s: float, *, reach_s: float = 1.0) -> int | None:
    """The row nearest to a time; None where nothing was recorded within `reach_s`."""
    if time_s < times_s[0] - reach_s or time_s > times_s[-1] + reach_s:
        return None
    row = int(times_s.searchsorted(time_s))
    if row == len(times_s) or (row > 0 and time_s - times_s[row - 1] < times_s[row] - time_s):
        row -= 1
    return row
