"""What one phase of a run needs."""

from dataclasses import dataclass, replace

Names = frozenset[str]
"""Components that stay on the device for the whole run."""


@dataclass(frozen=True, slots=True)
class PhaseNeed:
    """What a phase needs: weights on the device, working memory as forecast, and time.

    Of the time, computing waits so long for weights that come in while it runs.
    """

    weights_bytes: int
    forecast_bytes: int
    seconds: float
    waiting_seconds: float = 0.0

    def less_weights(self, size_bytes: int) -> "PhaseNeed":
        """The same with so much less of weights."""
        return replace(self, weights_bytes=self.weights_bytes - size_bytes)
