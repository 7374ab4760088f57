"""Trials of attention, kept: they are the same as long as device and libraries are."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from app.core.atomic import write_atomic
from app.core.policy import Attention
from app.engine.attention.ranking import Trial

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema_version: int = SCHEMA_VERSION
    entries: dict[str, KeptTrials] = field(default_factory=dict[str, KeptTrials])


class TrialStore:
    """Trials in a JSON file; without one that can be written, they are kept in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _read(path)

    def get(self, key: str) -> KeptTrials:
        """What is known for a key."""
        return self._entries.get(key, KeptTrials())

    def put(self, key: str, kept: KeptTrials) -> None:
        """Keep what is known for a key."""
        self._entries.pop(key, None)
        self._entries[key] = kept
        for oldest in tuple(self._entries)[:-MAX_ENTRIES]:
            del self._entries[oldest]
        try:
            write_atomic(self._path, msgspec.json.encode(_File(entries=self._entries)))
        except OSError as error:
            log.info("trials of attention cannot be kept: %s", error)


def _read(path: Path) -> dict[str, KeptTrials]:
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if raw.get("schema_version") != SCHEMA_VERSION:
            return {}
        return msgspec.convert(raw, type=_File).entries
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # They can all be made again.
        log.info("trials of attention cannot be read: %s", error)
        return {}
