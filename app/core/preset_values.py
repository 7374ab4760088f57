"""Values of one table of a preset's file: taken one by one, with a sentence for each bad one."""

import math
from collections.abc import Mapping
from typing import Any, cast

MAX_TEXT_CHARACTERS = 1000
_MAX_SHOWN = 40


class Values:
    """A table being read.

    Attributes:
        problems: Sentences so far; shared with the tables below.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        preset: str,
        problems: list[str],
        title: str = "",
    ) -> None:
        """Begin with a table.

        Args:
            raw: What the TOML parser gave.
            preset: The preset's name, for sentences.
            problems: Where sentences go.
            title: Of the table; "" is the top one.
        """
        self.problems = problems
        self._left = dict(raw)
        self._preset = preset
        self._prefix = f"{title}." if title else ""
        self._tables: list[Values] = []

    def table(self, key: str) -> "Values":
        """The table below with this name; an empty one where there is none."""
        raw = self.take(key)
        if raw is not None and not isinstance(raw, dict):
            self.refuse(key, "is a table", "empty")
        below = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
        values = Values(below, preset=self._preset, title=key, problems=self.problems)
        self._tables.append(values)
        return values

    def take(self, key: str) -> Any:  # noqa: ANN401 - whatever somebody wrote into the file
        """The raw value, or None where there is none."""
        return self._left.pop(key, None)

    def refuse(self, key: str, allowed: str, used: object) -> None:
        """Say that a value cannot be used, what is, and what is used instead."""
        self.problems.append(
            f"The preset “{self._preset}” has an unusable {self._prefix}{key}: it {allowed}; "
            f"it is taken as {used}."
        )

    def text(self, key: str, *, longest: int = MAX_TEXT_CHARACTERS) -> str | None:
        """One line of text that is not empty."""
        found = self.take(key)
        if found is None:
            return None
        # No line breaks and control characters, which no name has and which upset terminals.
        if isinstance(found, str) and found.isprintable() and 0 < len(found.strip()) <= longest:
            return found.strip()
        self.refuse(key, f"is a line of text of up to {longest} characters", "not given")
        return None

    def word(self, key: str, words: tuple[str, ...], default: str) -> str:
        """One of some words."""
        found = self.take(key)
        if found is None or (isinstance(found, str) and found in words):
            return default if found is None else found
        self.refuse(key, f"is one of {', '.join(words)}", default)
        return default

    def switch(self, key: str, *, default: bool) -> bool:
        """True or false."""
        found = self.take(key)
        if found is None or isinstance(found, bool):
            return default if found is None else found
        self.refuse(key, "is true or false", str(default).lower())
        return default

    def whole(self, key: str, default: int, *, lowest: int) -> int:
        """A whole number from `lowest` on."""
        found = self.optional_whole(key, lowest, None)
        return default if found is None else found

    def optional_whole(self, key: str, lowest: int, highest: int | None) -> int | None:
        """A whole number in a range, or None."""
        found = self.take(key)
        # bool is an int to Python, and true is no number to people.
        if found is None or (type(found) is int and _within(found, lowest, highest)):
            return found
        to = "or more" if highest is None else f"to {highest}"
        self.refuse(key, f"is a whole number, {lowest} {to}", "not given")
        return None

    def optional_number(self, key: str, lowest: float, highest: float) -> float | None:
        """A number in a range, or None."""
        found = self.take(key)
        if found is None:
            return None
        if type(found) in (int, float) and _within(found, lowest, highest):
            return float(found)
        # The lowest may be a single byte in GB, which says nothing to anyone.
        least = "above 0" if 0 < lowest < 1e-6 else f"{lowest:g}"
        self.refuse(key, f"is a number, {least} to {highest:g}", "not given")
        return None

    def finish(self) -> None:
        """Say which keys nobody took, here and below."""
        for key in self._left:
            shown = f"{self._prefix}{key}"[:_MAX_SHOWN]
            self.problems.append(
                f"The preset “{self._preset}” has “{shown}”, which this version does not know; "
                "it is left as it is."
            )
        for table in self._tables:
            table.finish()


def _within(value: float, lowest: float, highest: float | None) -> bool:
    if not math.isfinite(value):
        return False
    return lowest <= value and (highest is None or value <= highest)
