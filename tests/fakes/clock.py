"""A clock that only moves when told."""


class FakeClock:
    """Monotonic seconds.

    Attributes:
        now_s: What the clock shows.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
