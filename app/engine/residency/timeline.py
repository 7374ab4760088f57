"""How long a step takes while weights stream: the streamer's own rules, on two clocks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.engine.residency.copy_order import AHEAD, CopyOrder

WARM_UP_PASSES = 2
MEASURED_PASSES = 4
"""Passes differ a little where blocks come to lie elsewhere in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One pass through all blocks.

    Attributes:
        seconds: It takes.
        waited_s: Of it, computing waits for weights.
        copying_s: The link is busy for so long.
    """

    seconds: float
    waited_s: float
    copying_s: float


def step_seconds(
    compute_s: Sequence[float],
    block_bytes: Sequence[int],
    streamed: Collection[int],
    slots_bytes: int,
    bytes_per_s: float,
    *,
    cyclic: bool = True,
) -> StepTime:
    """What a pass takes: in a long row of them, or by itself.

    Args:
        compute_s: Of each block.
        block_bytes: Of each block.
        streamed: Numbers of the blocks that come in.
        slots_bytes: Of the ring, at least `least_slots_bytes` of the streamed blocks.
        bytes_per_s: Of the link.
        cyclic: Whether passes follow one another; else one alone, from an empty ring.

    Raises:
        ValueError: The ring is too small.
    """
    clocks = _Clocks(compute_s, block_bytes, sorted(streamed), slots_bytes, bytes_per_s, cyclic)
    if not cyclic:
        return clocks.passes(1)
    clocks.passes(WARM_UP_PASSES)
    return clocks.passes(MEASURED_PASSES)


class _Clocks:
    def __init__(
        self,
        compute_s: Sequence[float],
        block_bytes: Sequence[int],
        streamed: Sequence[int],
        slots_bytes: int,
        bytes_per_s: float,
        cyclic: bool,  # noqa: FBT001 - passed on
    ) -> None:
        self._compute_s = compute_s
        self._bytes_per_s = bytes_per_s
        self._order = CopyOrder(block_bytes, streamed, slots_bytes, cyclic=cyclic)
        self._copied_at: dict[int, float] = {}
        self._ended_at: list[float] = []
        self._link_s = self._waited_s = self._copying_s = 0.0

    def passes(self, count: int) -> StepTime:
        """Go on for so many passes; each one's share of what that takes."""
        began_s = self._ended_at[-1] if self._ended_at else 0.0
        self._waited_s = self._copying_s = 0.0
        now_s = began_s
        for _pass in range(count):
            for seconds in self._compute_s:
                now_s = self._turn(now_s, seconds)
        return StepTime(
            seconds=(now_s - began_s) / count,
            waited_s=self._waited_s / count,
            copying_s=self._copying_s / count,
        )

    def _turn(self, now_s: float, seconds: float) -> float:
        order, ended_at = self._order, self._ended_at
        order.begin()
        turn = order.turn
        # The host is this far ahead of the device when it tells it of the turn.
        told_s = ended_at[turn - AHEAD] if turn >= AHEAD else 0.0
        self._copy(told_s)
        ready_s = self._copied_at.pop(turn, now_s)
        self._waited_s += max(0.0, ready_s - now_s)
        now_s = max(now_s, ready_s) + seconds
        ended_at.append(now_s)
        order.end()
        self._copy(told_s)
        return now_s

    def _copy(self, told_s: float) -> None:
        while (copy := self._order.take()) is not None:
            free_s = self._ended_at[copy.after] if copy.after >= 0 else 0.0
            took_s = (copy.end - copy.begin) / self._bytes_per_s
            self._link_s = max(self._link_s, free_s, told_s) + took_s
            self._copying_s += took_s
            self._copied_at[copy.turn] = self._link_s
