"""What a GPU tells beside its memory, asked less often than that."""

import time
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_S = 1.0
"""Temperature, power and load change slowly, and some drivers take milliseconds to tell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Each None where the GPU does not tell.

    Attributes:
        load_percent: How busy it is.
        temperature_c: In degrees Celsius.
        power_w: In watts.
    """

    load_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None


class SlowDetails:
    """Remembers them for a second."""

    def __init__(
        self, ask: Callable[[], Details], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask nothing yet."""
        self._ask = ask
        self._clock = clock
        self._found = Details()
        self._asked_at_s = -float("inf")

    def now(self) -> Details:
        """As they were at most a second ago."""
        now_s = self._clock()
        if now_s - self._asked_at_s >= INTERVAL_S:
            self._asked_at_s = now_s
            self._found = self._ask()
        return self._found
