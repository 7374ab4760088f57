"""One thing the doctor looked at."""

import enum
from dataclasses import dataclass


class CheckState(enum.Enum):
    """How it is."""

    OK = "ok"
    """As it should be."""
    NOTE = "note"
    """Not needed for everything; worth knowing."""
    PROBLEM = "problem"
    """Must be mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the doctor found.

    Attributes:
        name: Stable and short, like "disk.pictures".
        state: How it is.
        found: What is there, or one sentence about what is not.
        remedy: What to do about it; "" when nothing is to be done.
    """

    name: str
    state: CheckState
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Check:
    """As it should be."""
    return Check(name=name, state=CheckState.OK, found=found)


def note(name: str, found: str, remedy: str) -> Check:
    """Worth knowing."""
    return Check(name=name, state=CheckState.NOTE, found=found, remedy=remedy)


def problem(name: str, found: str, remedy: str) -> Check:
    """Must be mended."""
    return Check(name=name, state=CheckState.PROBLEM, found=found, remedy=remedy)
