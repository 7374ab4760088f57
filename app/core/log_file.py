"""A log file that may stop being writable: nothing but the log suffers from that."""

import contextlib
import logging
import sys
from logging.handlers import RotatingFileHandler


class LogFile(RotatingFileHandler):
    """Records that a full or vanished disk refuses are left out; there is nowhere to say so.

    logging itself would print a stack for each of them among what the user reads, and raise when
    the file is closed.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging names it)
        """Called by logging where a record could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Write what is left, if that is possible, and close the file."""
        with contextlib.suppress(OSError):
            super().close()
