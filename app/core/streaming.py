"""What was measured of weights that came to the device."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """Weights that came to the device during one step, or several.

    Attributes:
        streamed_bytes: That were copied.
        copying_s: The link was busy for so long; `streamed_bytes / copying_s` is what it achieved.
        waited_s: Of it, computing had to wait for so long: the rest was hidden.
    """

    streamed_bytes: int
    copying_s: float
    waited_s: float

    @property
    def bytes_per_s(self) -> float | None:
        """What the link achieved; None where copying took no time that could be measured."""
        return self.streamed_bytes / self.copying_s if self.copying_s > 0 else None

    @property
    def hidden_share(self) -> float:
        """Of the copying, the share that computing did not wait for: 0 to 1."""
        if self.copying_s <= 0:
            return 1.0
        return min(1.0, max(0.0, 1.0 - self.waited_s / self.copying_s))

    def __add__(self, other: "Streaming") -> "Streaming":
        """Both together, as of two steps."""
        return Streaming(
            streamed_bytes=self.streamed_bytes + other.streamed_bytes,
            copying_s=self.copying_s + other.copying_s,
            waited_s=self.waited_s + other.waited_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedPhase:
    """A phase in which weights streamed: all that came in, and its waits beside the forecast.

    Waits are compared from the second step of each part on. In the first, all weights come to a
    device that has none, and plans count that as loading.

    Attributes:
        streaming: Of all steps.
        steps: So many of them are compared.
        planned_waiting_s: In these, computing was expected to wait so long for weights.
        waited_s: It did for so long.
    """

    streaming: Streaming
    steps: int = 0
    planned_waiting_s: float = 0.0
    waited_s: float = 0.0

    def __add__(self, other: "StreamedPhase") -> "StreamedPhase":
        """Both together."""
        return StreamedPhase(
            streaming=self.streaming + other.streaming,
            steps=self.steps + other.steps,
            planned_waiting_s=self.planned_waiting_s + other.planned_waiting_s,
            waited_s=self.waited_s + other.waited_s,
        )
