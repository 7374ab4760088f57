"""Collects what a test logs, and tells what of it nobody expected."""

import logging
import re
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Expectation:
    """A record that the test says it will cause; it may come more than once."""

    pattern: re.Pattern[str]
    logger: str
    level: int
    seen: int = 0

    def matches(self, record: logging.LogRecord) -> bool:
        """Whether the record is the expected one."""
        return (
            record.levelno == self.level
            and (record.name == self.logger or record.name.startswith(f"{self.logger}."))
            and self.pattern.search(record.getMessage()) is not None
        )


class LogWatch(logging.Handler):
    """Handler that keeps every record of WARNING and above.

    Attributes:
        records: As they came.
        expectations: What `expect` was told.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.expectations: list[Expectation] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record; a logger that does not propagate and the root may both bring it."""
        if not any(record is known for known in self.records):
            self.records.append(record)

    def expect(self, pattern: str, *, logger: str = "app", level: str = "WARNING") -> None:
        """Allow records of `logger` (or below) whose message matches, and demand at least one.

        Args:
            pattern: Regular expression, searched for in the message.
            logger: Name of the logger or of one above it.
            level: "WARNING", "ERROR" or "CRITICAL".
        """
        number = logging.getLevelNamesMapping()[level]
        self.expectations.append(
            Expectation(pattern=re.compile(pattern), logger=logger, level=number)
        )

    def problems(self) -> list[str]:
        """Unexpected records, and expected ones that never came."""
        found: list[str] = []
        for record in self.records:
            matching = [one for one in self.expectations if one.matches(record)]
            for expectation in matching:
                expectation.seen += 1
            if not matching:
                found.append(f"unexpected: {record.levelname} {record.name}: {record.getMessage()}")
        for expectation in self.expectations:
            if not expectation.seen:
                level = logging.getLevelName(expectation.level)
                found.append(
                    f"expected, but not logged: {level} {expectation.logger}: "
                    f"{expectation.pattern.pattern}"
                )
        return found
