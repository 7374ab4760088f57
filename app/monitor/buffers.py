"""Columns of numbers over time in bounded memory: the latest ones, and all of them coarsely.

Plain `array`s, so that nobody has to load numpy; a plot can look at them without copying.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A look into a buffer, valid until something is added to it.

    Attributes:
        times_s: Of the rows, rising.
        lows: Smallest value of each row, column by column.
        highs: Largest value of each row; the same where a row is one sample.
    """

    times_s: memoryview
    lows: tuple[memoryview, ...]
    highs: tuple[memoryview, ...]

    def __len__(self) -> int:
        return len(self.times_s)


class RollingBuffer:
    """The latest rows, the oldest making room for the newest."""

    def __init__(self, *, capacity: int, columns: int) -> None:
        self._capacity = capacity
        # Each row is kept twice, one capacity apart: the latest rows always lie in one piece.
        self._times = array("d", bytes(16 * capacity))
        self._values = [array("d", bytes(16 * capacity)) for _ in range(columns)]
        self._next = 0
        self._count = 0

    def add(self, time_s: float, values: Sequence[float]) -> None:
        """Keep one row."""
        here, there = self._next, self._next + self._capacity
        self._times[here] = self._times[there] = time_s
        for column, value in zip(self._values, values, strict=True):
            column[here] = column[there] = value
        self._next = (here + 1) % self._capacity
        self._count = min(self._count + 1, self._capacity)

    def since(self, time_s: float) -> Columns:
        """Rows from this time on, and the one before, where a curve enters the picture."""
        stop = self._next + self._capacity
        start = stop - self._count
        first = bisect_left(self._times, time_s, start, stop)
        rows = slice(max(start, first - 1), stop)
        values = tuple(memoryview(column)[rows] for column in self._values)
        return Columns(times_s=memoryview(self._times)[rows], lows=values, highs=values)


class DecimatingBuffer:
    """All rows since the start; when it is full, pairs become one row with their low and high.

    So the memory is bounded, no peak is ever lost, and the resolution is at least half the
    capacity over the whole time.

    Attributes:
        generation: Another number after each change of rows that were there before the last one.
    """

    def __init__(self, *, capacity: int, columns: int) -> None:
        self._capacity = capacity - capacity % 2
        self._times = array("d", bytes(8 * self._capacity))
        self._lows = [self._times[:] for _ in range(columns)]
        self._highs = [self._times[:] for _ in range(columns)]
        self.generation = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.generation += 1
        self._count = 0
        self._rows_per_bin = 1
        self._in_last_bin = 0

    def add(self, time_s: float, values: Sequence[float]) -> None:
        """Keep one row."""
        if self._count and self._in_last_bin < self._rows_per_bin:
            last = self._count - 1
            self._in_last_bin += 1
            for lows, highs, value in zip(self._lows, self._highs, values, strict=True):
                lows[last] = _low(lows[last], value)
                highs[last] = _high(highs[last], value)
            return
        if self._count == self._capacity:
            self._halve()
        self._times[self._count] = time_s
        for lows, highs, value in zip(self._lows, self._highs, values, strict=True):
            lows[self._count] = highs[self._count] = value
        self._count += 1
        self._in_last_bin = 1

    def all(self) -> Columns:
        """Every row."""
        rows = slice(0, self._count)
        return Columns(
            times_s=memoryview(self._times)[rows],
            lows=tuple(memoryview(column)[rows] for column in self._lows),
            highs=tuple(memoryview(column)[rows] for column in self._highs),
        )

    def _halve(self) -> None:
        self.generation += 1
        half = self._capacity // 2
        self._times[:half] = self._times[::2]
        for lows, highs in zip(self._lows, self._highs, strict=True):
            lows[:half] = array("d", map(_low, lows[::2], lows[1::2]))
            highs[:half] = array("d", map(_high, highs[::2], highs[1::2]))
        self._count = half
        self._rows_per_bin *= 2


def _low(one: float, other: float) -> float:
    """The smaller number; a value nobody told does not count."""
    return one if one <= other or other != other else other


def _high(one: float, other: float) -> float:
    """The larger number; a value nobody told does not count."""
    return one if one >= other or other != other else other
