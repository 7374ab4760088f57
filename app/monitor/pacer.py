"""Keeps a rhythm without drift: late ticks are skipped, not made up for."""


class Pacer:
    """When the next tick is due.

    Attributes:
        interval_s: Between ticks; may be changed at any time.
    """

    def __init__(self, interval_s: float, *, now_s: float) -> None:
        """Start at `now_s`, where the first tick is due."""
        self.interval_s = interval_s
        self._due_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next tick; 0 when it is due."""
        # The interval may have become shorter since the tick was planned.
        self._due_s = min(self._due_s, now_s + self.interval_s)
        return max(0.0, self._due_s - now_s)

    def ticked(self, now_s: float) -> None:
        """A tick was taken: plan the next one on the grid of the last."""
        self._due_s += self.interval_s
        if self._due_s <= now_s:
            missed = (now_s - self._due_s) // self.interval_s + 1
            self._due_s += missed * self.interval_s
