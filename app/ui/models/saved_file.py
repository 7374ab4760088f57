"""A file that follows a state in memory: written soon after a change, and at the end for sure."""

import logging
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from app.ui.models.background import Background

log = logging.getLogger(__name__)

DELAY_MS = 400


class SavedFile(QObject):
    """Writes a state a moment after the last `touch()`, outside the GUI thread.

    `snapshot` is called in the GUI thread and gives the function that writes what is there now, so
    that the thread never sees a state that changes under its hands.

    Signals:
        failed(str): A sentence; the state could not be written. Said once until it succeeds again.
    """

    failed = Signal(str)

    def __init__(
        self,
        background: Background,
        snapshot: Callable[[], Callable[[], None]],
        parent: QObject | None = None,
        *,
        sentence: str,
    ) -> None:
        """Keep what is needed.

        Args:
            background: Where files are written.
            snapshot: See above.
            parent: Owner.
            sentence: Said when writing fails, with {reason} in it.
        """
        super().__init__(parent)
        self._sentence = sentence
        self._has_told = False
        self._background = background
        self._snapshot = snapshot
        self._dirty = False
        self._writing = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._write)

    def touch(self) -> None:
        """The state has changed."""
        self._dirty = True
        self._timer.start()

    def flush(self) -> None:
        """Write now, in this thread, when something is unwritten; for the end of the app."""
        self._timer.stop()
        if not (self._dirty or self._writing):
            return
        self._dirty = False
        try:
            self._snapshot()()
        except OSError as error:
            self._on_failed(error)
        else:
            self._has_told = False

    @Slot()
    def _write(self) -> None:
        if self._writing:
            self._timer.start()  # One writer at a time, or an older state could win.
            return
        self._dirty = False
        self._writing = True
        self._background.run(self._snapshot(), self._on_written, self._on_failed)

    def _on_written(self, _nothing: None) -> None:
        self._writing = False
        self._has_told = False

    def _on_failed(self, error: Exception) -> None:
        self._writing = False
        log.warning("state cannot be saved: %s", error)
        if self._has_told:
            # Else a full disk would be told again with every letter typed.
            return
        self._has_told = True
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        self.failed.emit(self._sentence.format(reason=reason))
