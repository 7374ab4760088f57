"""One row that says what the engine is doing, how fast, and how long it still takes."""

from PySide6.QtCore import Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QLabel, QToolButton, QVBoxLayout, QWidget

from app.ui import theme
from app.ui.models.progress_text import progress_text
from app.ui.models.run_progress import RunProgress
from app.ui.widgets.narrowing_row import NarrowingRow
from app.ui.widgets.progress_bar import ProgressBar


class ProgressRow(QWidget):
    """Keeps its height whether something runs or not, so that the picture stays where it is.

    Signals:
        cancel_clicked: The user wants the running job stopped.
    """

    cancel_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("progress_row")
        self._phase = self._label("progress_phase", "title", self.tr("What is being done"))
        self._step = self._label("progress_step", "muted", self.tr("Step"))
        self._rate = self._label("progress_rate", "muted", self.tr("Speed"))
        self._streaming = self._label(
            "progress_streaming", "muted", self.tr("Streaming of weights")
        )
        self._remaining = self._label("progress_remaining", "muted", self.tr("Time left"))
        self._elapsed = self._label("progress_elapsed", "muted", self.tr("Time since the start"))
        self._bar = ProgressBar("progress_bar", self)
        self._bar.setAccessibleName(self.tr("Progress of the running picture"))
        self._cancel = QToolButton(self)
        self._cancel.setObjectName("progress_cancel")
        self._cancel.setIcon(theme.icon("stop"))
        self._cancel.setAccessibleName(self.tr("Cancel the running picture"))
        self._cancel.clicked.connect(self.cancel_clicked)
        theme.set_role(self._cancel, "flat")
        for widget in (self._cancel, self._bar):
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)
        gap = theme.SPACING_PX
        self._words = NarrowingRow("progress_words", self, spacing_px=2 * gap)
        self._words.add(self._phase, self._step)
        self._words.add_stretch()
        self._words.add(self._streaming, self._rate, self._remaining, self._elapsed, self._cancel)
        self._words.set_spare((self._elapsed, self._streaming, self._rate, self._step))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(gap // 2)
        column.addWidget(self._words)
        column.addWidget(self._bar)
        self.show_outcome(self.tr("Ready"))

    def show_progress(self, progress: RunProgress) -> None:
        """Say how far a run is."""
        text = progress_text(progress)
        self._phase.setText(text.phase)
        self._step.setText(text.step)
        self._rate.setText(text.rate)
        self._streaming.setText(text.streaming)
        self._streaming.setToolTip(text.streaming_tip)
        self._remaining.setText(text.remaining)
        self._elapsed.setText(text.elapsed)
        self._bar.set_fraction(text.fraction)
        self._bar.show()
        self._show_cancel(again=progress.cancelling)
        self._cancel.show()
        self._words.refresh()

    def show_outcome(self, text: str) -> None:
        """Say how the last run ended; nothing runs."""
        self._phase.setText(text)
        for label in (self._step, self._rate, self._streaming, self._remaining, self._elapsed):
            label.setText("")
        self._bar.set_fraction(0.0)
        self._bar.hide()
        self._show_cancel(again=False)
        self._cancel.hide()
        self._words.refresh()
        if self.isVisible():
            QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))

    def _show_cancel(self, *, again: bool) -> None:
        self._cancel.setToolTip(
            self.tr("Stop at once, without waiting for the step to end")
            if again
            else self.tr("Cancel the running picture (Esc)")
        )

    def _label(self, name: str, role: str, description: str) -> QLabel:
        label = QLabel(self)
        label.setObjectName(name)
        label.setToolTip(description)
        label.setAccessibleDescription(description)
        theme.set_role(label, role)
        return label
