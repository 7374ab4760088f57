"""Shows how far set-up has come: one line per stage, with a moving part on a terminal."""

import contextlib
import shutil
import sys
import time
from collections.abc import Generator
from typing import TextIO

# Without a terminal (a log file, CI) the moving part is printed now and then instead.
_PLAIN_INTERVAL_S = 15.0


class Console:
    """Prints stages to a stream.

    Attributes:
        stream: Where to; standard error, so that standard output stays the app's own.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._is_terminal = self.stream.isatty()
        self._title = ""
        self._detail = ""
        self._started_s = 0.0
        self._printed_s = 0.0
        self._live_columns = 0

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._wipe()
        self._write(f"{text}\n")

    @contextlib.contextmanager
    def stage(self, title: str) -> Generator[None, None, None]:
        """Show a stage while the block runs, and how long it took when it is done."""
        self._title, self._detail = title, ""
        self._started_s = self._printed_s = time.monotonic()
        if not self._is_terminal:
            self._write(f"{title} ...\n")
        self.tick()
        try:
            yield
        except BaseException:
            self._wipe()
            self._write(f"{title}: stopped\n")
            raise
        self._wipe()
        self._write(f"{title}: done ({_elapsed(self._started_s)})\n")

    def detail(self, text: str) -> None:
        """Say what the current stage is doing."""
        self._detail = text
        self.tick()

    def tick(self) -> None:
        """Bring the elapsed time up to date."""
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns - 1
            line = f"{self._title} ... {_elapsed(self._started_s)}  {self._detail}"[:columns]
            self._write(f"\r{line.ljust(self._live_columns)}")
            self._live_columns = len(line)
        elif self._detail and time.monotonic() - self._printed_s > _PLAIN_INTERVAL_S:
            self._printed_s = time.monotonic()
            self._write(f"  {_elapsed(self._started_s)}  {self._detail}\n")

    def _wipe(self) -> None:
        if self._live_columns:
            self._write(f"\r{' ' * self._live_columns}\r")
            self._live_columns = 0

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def _elapsed(since_s: float) -> str:
    seconds = int(time.monotonic() - since_s)
    return f"{seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"
