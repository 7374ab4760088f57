"""The memory panel: the live graph, its figures, and what one can do with the recording."""

import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QButtonGroup,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.ui import theme
from app.ui.models.forecast_model import ForecastModel
from app.ui.models.memory_frame import MemoryView
from app.ui.models.monitor_model import MonitorModel
from app.ui.widgets.device_state import DeviceState
from app.ui.widgets.figure_table import FigureTable
from app.ui.widgets.memory_graph import MemoryGraph
from app.ui.widgets.memory_words import memory_words

BESIDE_PX = 620
BESIDE_RATIO = 1.25
"""From this width on, the figures stand beside the graph where the panel is wider than high by so
much; else below it."""
LOW_GRAPH_PX = 170
"""Where less would be left to the graph, the figures below it leave the parts of ours out."""
FIGURES_WIDTH_PX = 312
LEAST_NAME_PX = 140
"""Of the GPU's name; its state is shown where that much is left to it."""
STATE_INTERVAL_S = 1.0
"""As often as drivers are asked."""
FIGURES_INTERVAL_S = 0.45
"""Numbers that change faster cannot be read."""
WORDS_INTERVAL_S = 5.0
"""Screen readers read the description again when it changes."""


class MemoryPanel(QFrame):
    """Shows what a MonitorModel records.

    Signals:
        watched_changed: Whether somebody can see it (bool), for the monitor's rhythm.
        said: One sentence about what was done, for the status bar.
        failed: One sentence about what could not be done.
    """

    watched_changed = Signal(bool)
    said = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        model: MonitorModel,
        parent: QWidget | None = None,
        *,
        forecast: ForecastModel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("memory_panel")
        self.setAccessibleName(self.tr("Memory"))
        theme.set_role(self, "card")
        self._model = model
        self._clock = clock
        self._figures_at_s = -float("inf")
        self._words_at_s = -float("inf")
        self._state_at_s = -float("inf")
        self._graph = MemoryGraph(model, self, forecast=forecast)
        self._table = FigureTable(self)
        self._device = QLabel(self)
        self._state = DeviceState(self)
        self._recent = QPushButton(self.tr("60 s"), self)
        self._run = QPushButton(self.tr("Run"), self)
        self._reset = QToolButton(self)
        self._save = QToolButton(self)
        self._build_controls()
        self._body = QBoxLayout(QBoxLayout.Direction.TopToBottom)
        self._lay_out()
        model.updated.connect(self._on_updated)
        model.lanes_changed.connect(self._show_state)
        model.figures_reset.connect(self._show_figures)
        model.run_started.connect(self._on_run_changed)
        model.run_ended.connect(self._on_run_changed)
        model.recording_saved.connect(self._on_saved)
        model.recording_failed.connect(self.failed)
        self._show_state()
        self._show_figures()

    @classmethod
    def ask_file(cls, parent: QWidget, suggested: str) -> Path | None:
        """Let the user choose where to save the recording."""
        chosen, _ = QFileDialog.getSaveFileName(
            parent,
            parent.tr("Save recording"),
            suggested,
            parent.tr("Table (*.csv);;All files (*)"),
        )
        return Path(chosen) if chosen else None

    @property
    def graph(self) -> MemoryGraph:
        """The graph."""
        return self._graph

    @property
    def figure_table(self) -> FigureTable:
        """The figures."""
        return self._table

    def set_view(self, view: MemoryView) -> None:
        """Show the last minute or the run."""
        self._graph.set_view(view)
        (self._run if view is MemoryView.RUN else self._recent).setChecked(True)

    def save_recording(self) -> None:
        """Ask for a file and write the recording to it."""
        path = self.ask_file(self, "headroom-memory.csv")
        if path is not None:
            self._model.save_recording(path)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show_figures()
        self._show_words()
        self.watched_changed.emit(self.isVisible())

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.watched_changed.emit(self.isVisible())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()
        self._show_state()

    def _build_controls(self) -> None:
        self._device.setObjectName("memory_device")
        theme.set_role(self._device, "muted")
        self._device.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        views = QButtonGroup(self)
        for button, view, name, tip in (
            (self._recent, MemoryView.RECENT, "memory_recent", self.tr("Show the last 60 s")),
            (self._run, MemoryView.RUN, "memory_run", self.tr("Show the whole run")),
        ):
            button.setObjectName(name)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.setAccessibleDescription(tip)
            theme.set_role(button, "chip")
            views.addButton(button)
            button.setProperty("memory_view", view)
        self._recent.setChecked(True)
        views.buttonClicked.connect(self._on_view_clicked)
        for tool, name, icon, tip in (
            (self._reset, "memory_reset", "reset", self.tr("Reset peak and average")),
            (self._save, "memory_save", "export", self.tr("Save recording as a table (CSV)…")),
        ):
            tool.setObjectName(name)
            tool.setIcon(theme.icon(icon, "muted"))
            tool.setIconSize(QSize(16, 16))
            tool.setToolTip(tip)
            tool.setAccessibleName(tip)
            theme.set_role(tool, "flat")
        self._reset.clicked.connect(self._model.reset_peak)
        self._save.clicked.connect(self.save_recording)

    def _lay_out(self) -> None:
        gap = theme.SPACING_PX
        bar = QHBoxLayout()
        bar.setSpacing(4)
        bar.addWidget(self._device, 1)
        bar.addWidget(self._state, 0, Qt.AlignmentFlag.AlignVCenter)
        bar.addSpacing(4)
        for widget in (self._recent, self._run, self._reset, self._save):
            bar.addWidget(widget, 0, Qt.AlignmentFlag.AlignVCenter)
        self._body.setSpacing(gap)
        self._body.addWidget(self._graph, 1)
        self._body.addWidget(self._table, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(gap, gap, gap, gap)
        layout.setSpacing(gap)
        layout.addLayout(bar)
        layout.addLayout(self._body, 1)

    def _arrange(self) -> None:
        beside = self.width() >= max(BESIDE_PX, BESIDE_RATIO * self.height())
        direction = QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom
        if self._body.direction() != direction:
            self._body.setDirection(direction)
            self._body.setSpacing(theme.SPACING_PX * (3 if beside else 1))
        self._table.setFixedWidth(FIGURES_WIDTH_PX) if beside else self._free_table_width()
        self._choose_parts()

    def _choose_parts(self) -> None:
        """Leave out what ours consists of where the graph would become too low for it."""
        gap = theme.SPACING_PX
        room_px = self.height() - self._body.geometry().top() - gap
        if self._body.direction() == QBoxLayout.Direction.TopToBottom:
            room_px -= LOW_GRAPH_PX + gap
        self._table.set_shows_parts(shows_parts=self._table.height_px(with_parts=True) <= room_px)

    def _free_table_width(self) -> None:
        self._table.setMinimumWidth(0)
        self._table.setMaximumWidth(16_777_215)

    @Slot(object)
    def _on_view_clicked(self, button: QPushButton) -> None:
        self._graph.set_view(button.property("memory_view"))

    @Slot()
    def _on_updated(self) -> None:
        if not self.isVisible():
            return
        now_s = self._clock()
        if now_s - self._figures_at_s >= FIGURES_INTERVAL_S:
            self._figures_at_s = now_s
            self._show_figures()
        if now_s - self._state_at_s >= STATE_INTERVAL_S:
            self._state_at_s = now_s
            self._show_state()
        if now_s - self._words_at_s >= WORDS_INTERVAL_S:
            self._words_at_s = now_s
            self._show_words()

    @Slot(object)
    def _on_run_changed(self, job_id: str) -> None:
        del job_id
        self._show_figures()

    @Slot()
    def _show_figures(self) -> None:
        self._table.set_figures(self._model.figures())
        self._choose_parts()

    def _show_words(self) -> None:
        words = memory_words(self._model.figures())
        self._graph.setAccessibleDescription(words)
        self._table.setAccessibleDescription(words)

    @Slot()
    def _show_state(self) -> None:
        """Beside the name, where that keeps room enough."""
        sample = self._model.sample
        buttons_px = sum(one.width() for one in (self._recent, self._run, self._reset, self._save))
        room_px = self.width() - buttons_px - 4 * theme.SPACING_PX
        self._state.setMinimumWidth(self._state.wanted_px)
        self._state.show_state(
            None if sample is None else sample.device,
            has_room=room_px - self._state.wanted_px >= LEAST_NAME_PX,
        )
        layout = self.layout()
        if layout is not None:
            layout.activate()
        self._show_device()

    def _show_device(self) -> None:
        name = self._model.device_name or self.tr("No GPU")
        # Also where there is no room for it beside the name.
        self._device.setToolTip("\n".join(text for text in (name, self._state.text()) if text))
        metrics = self._device.fontMetrics()
        room = max(0, self._device.width())
        self._device.setText(metrics.elidedText(name, Qt.TextElideMode.ElideRight, room))

    @Slot(object)
    def _on_saved(self, path: Path) -> None:
        self.said.emit(self.tr("Recording saved as {name}.").format(name=path.name))
