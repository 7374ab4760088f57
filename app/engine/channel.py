"""The engine process's own end of the pipes."""

import contextlib
import logging
import os
import sys
import threading
from io import FileIO
from typing import Any

from app.core.events import EngineLog
from app.engine.protocol import encode


class EventChannel:
    """Sends messages to the app, whole and one after the other, from any thread."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:  # noqa: ANN401 - any message of the protocol
        """Write one frame; when the app is gone it is lost, and the end of stdin ends us."""
        frame = memoryview(encode(message))
        with self._lock, contextlib.suppress(OSError, ValueError):
            while frame:
                written = self._stream.write(frame)
                frame = frame[written or 0 :]


class ChannelLogHandler(logging.Handler):
    """Log records as messages to the app."""

    def __init__(self, channel: EventChannel) -> None:
        super().__init__()
        self._channel = channel
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its traceback when it has one."""
        message = self.format(record).encode("utf-8", "replace").decode()
        self._channel.send(EngineLog(level=record.levelno, logger=record.name, message=message))


def take_over_stdio() -> tuple[FileIO, EventChannel]:
    """Keep stdin and stdout for the protocol alone.

    Whoever else writes to stdout, in Python or in C, writes to stderr from now on, and whoever
    reads stdin finds it empty: no stray byte can come between two frames.
    """
    commands = os.fdopen(_private_copy(0), "rb", buffering=0)
    events = os.fdopen(_private_copy(1), "wb", buffering=0)
    sys.stdout.flush()
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return commands, EventChannel(events)


def _private_copy(descriptor: int) -> int:
    copy = os.dup(descriptor)
    if sys.platform == "win32":
        import msvcrt  # There is none elsewhere.

        msvcrt.setmode(copy, os.O_BINARY)
    return copy
