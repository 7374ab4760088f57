"""Trials of attention, kept: they are the same as long as device and libraries are."""

from dataclasses import dataclass, replace
from pathlib import Path

from app.core.kept_entries import KeptEntries
from app.core.policy import Attention
from app.engine.attention.ranking import Trial

SCHEMA_VERSION = 2
MAX_ENTRIES = 256
"""The oldest go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrials:
    """What is known of one device, one set of libraries and one shape.

    Attributes:
        trials: That came to an end.
        begun: Kinds whose trial was begun, each time it was, and not ended since: the engine's
            process ended first.
    """

    trials: tuple[Trial, ...] = ()
    begun: tuple[Attention, ...] = ()

    def find(self, kind: Attention, *, timed: bool) -> Trial | None:
        """The trial of a kind, if there was one, and it was timed where that is wanted."""
        for trial in self.trials:
            if trial.kind is kind and (trial.problem or trial.seconds is not None or not timed):
                return trial
        return None

    def with_begun(self, kind: Attention) -> "KeptTrials":
        """With a trial that begins now."""
        return replace(self, begun=(*self.begun, kind))

    def with_trial(self, trial: Trial) -> "KeptTrials":
        """With a trial that ended."""
        others = tuple(one for one in self.trials if one.kind is not trial.kind)
        begun = tuple(kind for kind in self.begun if kind is not trial.kind)
        return KeptTrials(trials=(*others, trial), begun=begun)


class TrialStore:
    """Trials in a JSON file; without one that can be written, they are kept in memory."""

    def __init__(self, path: Path) -> None:
        self._entries = KeptEntries(
            path,
            KeptTrials,
            schema_version=SCHEMA_VERSION,
            max_entries=MAX_ENTRIES,
            name="trials of attention",
        )

    def get(self, key: str) -> KeptTrials:
        """What is known for a key."""
        return self._entries.get(key) or KeptTrials()

    def put(self, key: str, kept: KeptTrials) -> None:
        """Keep what is known for a key."""
        self._entries.put(key, kept)
