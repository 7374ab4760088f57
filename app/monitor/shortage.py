"""What it means that memory will not suffice, and when it has been so for long enough to say it."""

import enum
from dataclasses import dataclass

from app.core.jobs import Phase

RAISE_SAMPLES = 3
"""A shortage has to be there so many samples in a row: one alone may be a moment's peak."""
CLEAR_SAMPLES = 10
"""Memory has to be back for so many samples in a row before a shortage counts as over."""


class Cause(enum.Enum):
    """Why memory will run out."""

    OTHERS = "others"
    """Another program takes memory of the GPU."""
    GROWTH = "growth"
    """The run itself needs more than was planned."""
    SPILL = "spill"
    """Windows moves our memory of the GPU into RAM: no error, but many times slower."""
    RAM = "ram"
    """The computer's RAM runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """How things stand for one memory.

    Attributes:
        cause: What speaks for running out.
        phase: The one that is short of most.
        short_bytes: It lacks so much; what is left to spare when negative.
        in_s: Until it runs out; 0 when it is about to.
        took_bytes: By the cause, since the plan was made.
        growing: Whether what is counted has not been taken yet, but would be by then.
    """

    cause: Cause
    phase: Phase
    short_bytes: int
    in_s: float
    took_bytes: int
    growing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where in the run an observation was made, as counted by `RunProgress`."""

    plan_number: int
    phase_number: int


class Alarm:
    """Says a shortage once: hysteresis between what is seen and what is told."""

    def __init__(self, *, margin_bytes: int, further_bytes: int) -> None:
        """Begin calm.

        Args:
            margin_bytes: So much has to be to spare before a shortage counts as over.
            further_bytes: So much more has to be lacking for a second word in the same phase.
        """
        self._margin_bytes = margin_bytes
        self._further_bytes = further_bytes
        self._short_samples = 0
        self._calm_samples = 0
        self._is_up = False
        self._told_at: Moment | None = None
        self._told_bytes = 0

    def look(self, shortage: Shortage | None, moment: Moment) -> bool:
        """Whether it is to be told now; None is no sign of a shortage at all."""
        short_bytes = -self._margin_bytes - 1 if shortage is None else shortage.short_bytes
        self._short_samples = self._short_samples + 1 if short_bytes > 0 else 0
        self._calm_samples = self._calm_samples + 1 if short_bytes < -self._margin_bytes else 0
        if self._calm_samples >= CLEAR_SAMPLES:
            self._is_up = False
        told = self._told_at
        if told is not None and moment.plan_number != told.plan_number:
            # The engine has acted on it: what is lacking now is lacking by the new plan.
            self._is_up, self._told_bytes = False, 0
            self._told_at = told = Moment(
                plan_number=moment.plan_number, phase_number=told.phase_number
            )
        if self._short_samples < RAISE_SAMPLES:
            return False
        silent = self._is_up or (told is not None and told.phase_number == moment.phase_number)
        if silent and short_bytes < self._told_bytes + self._further_bytes:
            return False
        self._is_up, self._told_at, self._told_bytes = True, moment, short_bytes
        return True
