"""Writing to stderr, which may be closed, full, or read by nobody: no run ends for that."""

import contextlib
import sys
from typing import TextIO


def write_err(text: str, stream: TextIO | None = None) -> None:
    """Write and flush, if that is possible; what is said there is never the result itself.

    Args:
        text: To write.
        stream: Instead of the process's own stderr.
    """
    # Python has none where the handle was closed before the start.
    target: TextIO | None = stream or sys.stderr
    if target is None:
        return
    # ValueError: it was closed meanwhile.
    with contextlib.suppress(OSError, ValueError):
        target.write(text)
        target.flush()


def rewrites(stream: TextIO | None = None) -> bool:
    """Whether lines can be written anew there, as on a terminal."""
    target: TextIO | None = stream or sys.stderr
    return target is not None and target.isatty()
