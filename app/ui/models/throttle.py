"""Lets at most so many values a second through; the last one always arrives."""

from PySide6.QtCore import QObject, QTimer, Signal, Slot

_NOTHING = object()


class Throttle(QObject):
    """Passes a value on at once, and what comes too soon after it only when it is still the last.

    Signals:
        passed: The value, in this object's thread.
    """

    passed = Signal(object)

    def __init__(self, interval_ms: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: object = _NOTHING
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self.flush)

    def put(self, value: object) -> None:
        """Pass this on now, or at the end of the interval if nothing newer came."""
        self._waiting = value
        if not self._timer.isActive():
            self.flush()

    @Slot()
    def flush(self) -> None:
        """Pass on what waits, now."""
        value, self._waiting = self._waiting, _NOTHING
        if value is _NOTHING:
            return
        self._timer.start()
        self.passed.emit(value)

    def drop(self) -> None:
        """Forget what waits; the next value passes at once."""
        self._waiting = _NOTHING
        self._timer.stop()
