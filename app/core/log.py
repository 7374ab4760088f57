"""Logging of a process of ours: a file for bug reports, the last records for the log view.

Also the hooks that turn an exception nobody caught into a log record and one plain ErrorInfo.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from app.core.errors import ErrorInfo, describe
from app.core.events import EngineLog
from app.core.log_file import LogFile

log = logging.getLogger(__name__)

RING_RECORDS = 2000
FILE_BYTES = 2 * 1024 * 1024
OLDER_FILES = 3
OWN_LOGGERS = ("app", "engine")
"""Ours are logged at the chosen level, libraries from WARNING on."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A log record as plain data; `message` has the traceback when there is one."""

    time_s: float
    level: int
    logger: str
    message: str


class LogRing(logging.Handler):
    """The last records of this process.

    Listeners are called in the thread that logs and must return at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=RING_RECORDS)
        self._listeners: list[Callable[[LogLine], None]] = []
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record and tell the listeners; called by logging under the handler's lock."""
        line = LogLine(
            time_s=record.created,
            level=record.levelno,
            logger=record.name,
            message=self.format(record),
        )
        self._lines.append(line)
        for listener in tuple(self._listeners):
            listener(line)

    def lines(self) -> tuple[LogLine, ...]:
        """What is kept, oldest first."""
        self.acquire()
        try:
            return tuple(self._lines)
        finally:
            self.release()

    def add_listener(self, listener: Callable[[LogLine], None]) -> Callable[[], None]:
        """Call `listener` for each new record; the returned function ends that."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove


class LogSetup:
    """Handlers put on the root logger, and the way to take them off again.

    Attributes:
        ring: The last records.
        problem: One sentence when there is no log file though one was asked for, else "".
    """

    def __init__(self, ring: LogRing, handlers: tuple[logging.Handler, ...], problem: str) -> None:
        self.ring = ring
        self.problem = problem
        self._handlers = handlers

    def close(self) -> None:
        """Take the handlers off and close their files; may be called twice."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        self._handlers = ()


def set_up_logging(
    file: Path | None, *, level: int = logging.INFO, console: TextIO | None = None
) -> LogSetup:
    """Send log records to a rotating file, to the ring, and to `console` from WARNING on.

    Args:
        file: Of this process alone (rotating a shared file fails on Windows), or None.
        level: For our own loggers.
        console: A terminal, or None where there is none; with DEBUG it gets everything.
    """
    ring = LogRing()
    handlers: list[logging.Handler] = [ring]
    problem = ""
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            rotating = LogFile(file, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8")
        except OSError as error:
            problem = f"The log file {file} cannot be written ({error.strerror}); check the folder."
        else:
            rotating.setFormatter(logging.Formatter(_FORMAT))
            handlers.append(rotating)
    if console is not None:
        stream = logging.StreamHandler(console)
        stream.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        stream.setLevel(logging.DEBUG if level <= logging.DEBUG else logging.WARNING)
        handlers.append(stream)
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    if problem:
        log.warning("%s", problem)
    return LogSetup(ring, tuple(handlers), problem)


def forward_engine_log(event: EngineLog) -> None:
    """Log a record of the engine process here, under "engine." and its own logger's name."""
    logging.getLogger(f"engine.{event.logger}").log(event.level, "%s", event.message)


def install_excepthooks(on_error: Callable[[ErrorInfo], None] | None = None) -> Callable[[], None]:
    """Log exceptions that nobody caught, in any thread, and hand them on as plain data.

    Args:
        on_error: Called in the thread that failed.

    Returns:
        A function that puts the former hooks back.
    """
    former = sys.excepthook, threading.excepthook

    def report(error: BaseException) -> None:
        log.critical("an exception was not caught", exc_info=error)
        if on_error is not None:
            on_error(describe(error))

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            former[0](kind, error, trace)
        else:
            report(error)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            report(args.exc_value)

    sys.excepthook = in_main
    threading.excepthook = in_thread

    def restore() -> None:
        sys.excepthook, threading.excepthook = former

    return restore
