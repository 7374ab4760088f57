"""How long streaming makes a component's runs: the timeline of the residency, block by block."""

from collections.abc import Callable, Sequence

from app.core.jobs import Phase
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.planning.kept import Kept
from app.engine.planning.pass_seconds import pass_seconds, read_pass_seconds
from app.engine.planning.problem import PlanProblem
from app.engine.planning.seconds import time_factor

Runs = Sequence[tuple[int, float]]
"""How often a network runs with how many seconds of computing each time; the first is run first."""

STREAM_S = 0.01
"""For a component to be streamed at all: more than turns and rungs of the decode. An assumption."""
STREAM_SHARE = 0.02
"""Of its copy, what a streamed weight costs where it is hidden behind computing: both share the
device's memory. An assumption."""
PassSeconds = Callable[[Kept, float], float]
"""Of a pass, for a way and the seconds of computing."""
_COMPONENTS = {Phase.ENCODE: TEXT_ENCODER, Phase.DENOISE: TRANSFORMER}


class StreamingCost:
    """What it costs to stream the component of a phase, in ways to keep it."""

    def __init__(self, problem: PlanProblem, phase: Phase, runs: Runs) -> None:
        """Take what does not depend on the way.

        Args:
            problem: What is planned.
            phase: Encode or denoise.
            runs: How often the component runs, and how long each takes to compute.
        """
        name = _COMPONENTS[phase]
        factor = time_factor(problem, phase)
        calibration = problem.device.calibration
        self._blocks = problem.blocks[name]
        self._room_bytes = problem.ram_rooms[name]
        self._copy_bytes_per_s = calibration.copy_bytes_per_s / factor
        self._read_bytes_per_s = calibration.read_bytes_per_s / factor
        self._cyclic = name == TRANSFORMER  # As `app.engine.residency.residence` has it.
        # All weights are brought for the first run; see `weights_seconds`.
        first = 1
        self._runs: list[tuple[int, int, float]] = []
        for count, computing_s in runs:
            self._runs.append((count, count - first, computing_s))
            first = 0

    def least_seconds(self, kept: Kept) -> float:
        """Never more than `seconds`, and sooner said; rises with the bytes that come in."""
        coming_s = max(
            kept.streamed_bytes / self._copy_bytes_per_s,
            (kept.streamed_bytes - self._room_bytes) / self._read_bytes_per_s,
        )
        return STREAM_S + sum(
            again * max(0.0, coming_s - computing_s) + count * STREAM_SHARE * coming_s
            for count, again, computing_s in self._runs
        )

    def unread_seconds(self, kept: Kept) -> float:
        """As `seconds`, but as if blocks were read ahead of all copies: never more, sooner said.

        Args:
            kept: With the blocks that are read from the disk.
        """
        return self._more_seconds(kept, self._unread_pass_seconds)

    def seconds(self, kept: Kept) -> float:
        """What streaming adds to computing, in all runs.

        Args:
            kept: With the blocks that are read from the disk.
        """
        return self._more_seconds(kept, self._pass_seconds)

    def waiting_seconds(self, kept: Kept) -> float:
        """Of these, how long computing waits, without the first run.

        Args:
            kept: With the blocks that are read from the disk.
        """
        return self._waiting_seconds(kept, self._pass_seconds)

    def _more_seconds(self, kept: Kept, a_pass: PassSeconds) -> float:
        coming_s = self._coming_seconds(kept)
        sharing_s = sum(count * STREAM_SHARE * coming_s for count, _, _ in self._runs)
        return STREAM_S + sharing_s + self._waiting_seconds(kept, a_pass)

    def _waiting_seconds(self, kept: Kept, a_pass: PassSeconds) -> float:
        coming_s = self._coming_seconds(kept)
        return sum(
            again * (max(a_pass(kept, computing_s), coming_s, computing_s) - computing_s)
            for _, again, computing_s in self._runs
            if again
        )

    def _coming_seconds(self, kept: Kept) -> float:
        reading_s = kept.file_bytes / self._read_bytes_per_s
        return max(kept.streamed_bytes / self._copy_bytes_per_s, reading_s)

    def _pass_seconds(self, kept: Kept, computing_s: float) -> float:
        unread_s = self._unread_pass_seconds(kept, computing_s)
        if not kept.file_blocks:
            return unread_s
        read_s = read_pass_seconds(
            self._blocks,
            kept.streamed_blocks,
            kept.slots_bytes,
            computing_s,
            self._copy_bytes_per_s,
            self._cyclic,
            kept.file_blocks,
            self._read_bytes_per_s,
        )
        return max(read_s, unread_s)

    def _unread_pass_seconds(self, kept: Kept, computing_s: float) -> float:
        return pass_seconds(
            self._blocks,
            kept.streamed_blocks,
            kept.slots_bytes,
            computing_s,
            self._copy_bytes_per_s,
            self._cyclic,
        )
