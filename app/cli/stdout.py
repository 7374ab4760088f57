"""Writing to stdout, which may be a full disk, a closed handle or a reader that has gone."""

import contextlib
import os
import sys
from typing import TextIO


class StdoutError(Exception):
    """What is written to stdout does not arrive; the message is a sentence."""


def write_out(text: str, stream: TextIO | None = None) -> None:
    """Write and flush, so that a reader sees it now and a failure is met here.

    Args:
        text: To write.
        stream: Instead of the process's own stdout.

    Raises:
        BrokenPipeError: Whoever read it has ended.
        StdoutError: It cannot be written.
    """
    target = stream or _process_stdout()
    try:
        target.write(text)
        target.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutError(
            f"The output cannot be written ({error.strerror or error}): "
            "send it to another place, or free some space."
        ) from error


def silence_stdout() -> None:
    """What is left unwritten goes nowhere; Python must not complain about it at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _process_stdout() -> TextIO:
    # Python has none where the handle was closed before the start.
    stream: TextIO | None = sys.stdout
    if stream is None:
        raise StdoutError("The output cannot be written: stdout is closed.")
    return stream
