"""Whether a figure grows steadily, and how fast: told apart from noise and from a single step."""

from collections import deque
from dataclasses import dataclass

WINDOWS_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Growth is looked for in the shortest of these that shows it, so that it is seen early."""
MIN_SAMPLES = 5
MIN_LATEST = 3
STRAIGHTNESS = 12.0
"""A line rises by this many times its samples' spread about it; one step reaches 6, two reach 9."""
GAP_S = 3.0
"""After a longer gap (sleep, a driver that hung) nothing that was before says how it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a figure grows.

    Attributes:
        bytes_per_s: 0 where nothing grows steadily; never negative.
        seen_s: For how long it has grown like that; no longer than the longest window.
    """

    bytes_per_s: float = 0.0
    seen_s: float = 0.0


class Trend:
    """The last seconds of one figure."""

    def __init__(self, *, min_rise_bytes: float) -> None:
        """Begin with nothing.

        Args:
            min_rise_bytes: Less than this within a window is no growth.
        """
        self._min_rise_bytes = min_rise_bytes
        self._samples: deque[tuple[float, float]] = deque()

    def reset(self) -> None:
        """Forget what was: another plan, another device."""
        self._samples.clear()

    def add(self, time_s: float, value_bytes: float) -> None:
        """Take one value; a clock that jumped begins anew."""
        samples = self._samples
        if samples and not 0 < time_s - samples[-1][0] <= GAP_S:
            samples.clear()
        samples.append((time_s, value_bytes))
        while samples[0][0] < time_s - WINDOWS_S[-1]:
            samples.popleft()

    def growth(self) -> Growth:
        """The growth now."""
        found: Growth | None = None
        for window_s in WINDOWS_S:
            slope = self._slope(window_s)
            if slope is None:
                continue
            if found is None:
                found = Growth(bytes_per_s=slope, seen_s=window_s)
            elif slope >= found.bytes_per_s / 2:
                found = Growth(bytes_per_s=found.bytes_per_s, seen_s=window_s)
        return found or Growth()

    def _slope(self, window_s: float) -> float | None:
        """Of the straight line through the window, when it is one, rises, and still does."""
        if not self._samples:
            return None
        # The slack keeps a sample at the window's edge in it, however its time was rounded.
        since_s = self._samples[-1][0] - window_s - 1e-6
        inside = [one for one in self._samples if one[0] >= since_s]
        span_s = inside[-1][0] - inside[0][0]
        if len(inside) < MIN_SAMPLES or span_s < window_s / 2:
            return None
        slope, spread = _line(inside)
        rise = slope * span_s
        if rise < self._min_rise_bytes or rise < STRAIGHTNESS * spread:
            return None
        # Two steps one after the other look like a line, on which nothing happens at the end.
        latest, _ = _line(inside[-max(MIN_LATEST, len(inside) // 3) :])
        return slope if latest >= slope / 2 else None


def _line(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the line through samples of rising times, and their spread about it."""
    count = len(samples)
    mean_s = sum(time_s for time_s, _ in samples) / count
    mean = sum(value for _, value in samples) / count
    width = sum((time_s - mean_s) ** 2 for time_s, _ in samples)
    slope = sum((time_s - mean_s) * (value - mean) for time_s, value in samples) / width
    off = sum((value - mean - slope * (time_s - mean_s)) ** 2 for time_s, value in samples)
    return slope, (off / count) ** 0.5
