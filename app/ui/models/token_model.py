"""How long the prompt is in the model's own tokens, counted beside the window."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from app.ui.models.background import Background

DELAY_MS = 150
"""After the last key; a count takes a millisecond, but opening a tokenizer takes a second."""


class TokenCount(Protocol):
    """How long a prompt is.

    Attributes:
        tokens: In all, the model's own frame around the prompt included.
        limit: What the model reads.
        cut: The end of the prompt that is not read, or "".
    """

    @property
    def tokens(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def cut(self) -> str: ...


Count = Callable[[str], TokenCount]
"""Counts a prompt; made by opening a model's tokenizer."""


class TokenModel(QObject):
    """Counts the prompt a moment after it changes.

    Signals:
        counted(object): TokenCount, or None when it cannot be told.
    """

    counted = Signal(object)

    def __init__(
        self,
        open_tokenizer: Callable[[Path], Count],
        background: Background,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._open_tokenizer = open_tokenizer
        self._background = background
        self._folder: Path | None = None
        self._count: Count | None = None
        self._prompt = ""
        self._asked = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._ask)

    def set_folder(self, folder: Path | None) -> None:
        """Count as the model in this folder does; None where there is no model."""
        if folder == self._folder:
            return
        self._folder = folder
        self._count = None
        if folder is None:
            self.counted.emit(None)
            return
        self._background.run(
            lambda: (folder, self._open_tokenizer(folder)), self._on_opened, self._on_failed
        )

    @Slot(str)
    def set_prompt(self, prompt: str) -> None:
        """Count this prompt."""
        self._prompt = prompt
        self._timer.start()

    def stop(self) -> None:
        """Count no more."""
        self._timer.stop()

    @Slot()
    def _ask(self) -> None:
        count, prompt = self._count, self._prompt
        if count is None:
            return
        self._asked += 1
        number = self._asked
        self._background.run(lambda: (number, count(prompt)), self._on_counted, self._on_failed)

    def _on_opened(self, opened: tuple[Path, Count]) -> None:
        folder, count = opened
        if folder == self._folder:
            self._count = count
            self._ask()

    def _on_counted(self, counted: tuple[int, TokenCount]) -> None:
        number, count = counted
        # Two threads may answer in either order.
        if number == self._asked:
            self.counted.emit(count)

    def _on_failed(self, _error: Exception) -> None:
        # A folder that cannot be used is told at the model chooser, not here once more.
        self.counted.emit(None)
