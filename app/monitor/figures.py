"""Now, peak and average of one series, kept as samples come in."""

import math
from dataclasses import dataclass

MAX_WEIGHT_S = 2.0
"""A sample stands for no longer: what happened while the computer slept is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one series, in bytes; None while there is no value.

    Attributes:
        now: The latest value.
        peak: The largest.
        peak_at_s: When it was reached, on the monotonic clock.
        average: Over time.
    """

    now: float | None = None
    peak: float | None = None
    peak_at_s: float | None = None
    average: float | None = None


class RunningFigures:
    """Counts along, in constant memory."""

    def __init__(self) -> None:
        self._now: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget peak and average; the latest value stays."""
        self._peak: float | None = None
        self._peak_at_s: float | None = None
        self._sum = 0.0
        self._weight_s = 0.0
        self._last: tuple[float, float] | None = None

    def set_now(self, value: float) -> None:
        """Take the latest value without counting it."""
        self._now = None if math.isnan(value) else value

    def add(self, time_s: float, value: float) -> None:
        """Count a value; one that is not a number leaves a gap."""
        self.set_now(value)
        if self._now is None:
            self._last = None
            return
        if self._last is not None:
            # Trapezoids: right for any rhythm of samples, and exact for a straight line.
            last_s, last = self._last
            weight_s = min(max(0.0, time_s - last_s), MAX_WEIGHT_S)
            self._sum += (last + value) / 2 * weight_s
            self._weight_s += weight_s
        self._last = (time_s, value)
        self.note_peak(time_s, value)

    def note_peak(self, time_s: float, value: float) -> None:
        """Take a value that was reached between samples: it may be the peak."""
        if self._peak is None or value > self._peak:
            self._peak, self._peak_at_s = value, time_s

    def figures(self) -> Figures:
        """The figures now."""
        average = self._sum / self._weight_s if self._weight_s else None
        if average is None and self._last is not None:
            average = self._last[1]
        return Figures(now=self._now, peak=self._peak, peak_at_s=self._peak_at_s, average=average)
