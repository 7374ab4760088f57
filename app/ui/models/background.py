"""Work that must not hold up the window: done in a thread, its result handed to the GUI thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from PySide6.QtCore import QObject, Qt, Signal, Slot

Result = TypeVar("Result")

_THREADS = 2
"""One may read a slow disk for long; the other keeps counting tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    deliver: Callable[[Any], None]
    value: Any


class Background(QObject):
    """A few threads for short pieces of work.

    After `close()` nothing is delivered any more.
    """

    _ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="headroom-background")
        self._closed = False
        self._ended.connect(self._on_ended, Qt.ConnectionType.QueuedConnection)

    def run(
        self,
        work: Callable[[], Result],
        done: Callable[[Result], None],
        failed: Callable[[Exception], None],
        *,
        keep: bool = False,
    ) -> None:
        """Do `work` in a thread, then call `done` or `failed` in the GUI thread.

        Args:
            work: Done in a thread.
            done: Takes what it returned.
            failed: Takes what it raised.
            keep: Whether it is done even when `close` comes before its turn.
        """
        if self._closed:
            return

        def task() -> None:
            if self._closed and not keep:
                return
            try:
                outcome = _Outcome(deliver=done, value=work())
            except Exception as error:  # noqa: BLE001 - whatever it is, the GUI thread is told
                outcome = _Outcome(deliver=failed, value=error)
            if not self._closed:
                self._ended.emit(outcome)

        self._pool.submit(task)

    def close(self) -> None:
        """Finish what is being done or must be kept, drop the rest, deliver nothing more.

        May be called twice.
        """
        self._closed = True
        self._pool.shutdown(wait=True)

    @Slot(object)
    def _on_ended(self, outcome: _Outcome) -> None:
        if not self._closed:
            outcome.deliver(outcome.value)
