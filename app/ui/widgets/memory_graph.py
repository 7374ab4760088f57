"""The live memory graph: one lane for the GPU, one for RAM, over the last minute or a whole run."""

import math
from typing import Any

from PySide6.QtCore import QEvent, QObject, QPointF, Qt, Slot
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFont,
    QKeyEvent,
    QMouseEvent,
    QResizeEvent,
    QShowEvent,
)
from PySide6.QtWidgets import QLabel, QSizePolicy, QStackedLayout, QWidget

from app.ui import theme
from app.ui.models.forecast_model import ForecastModel
from app.ui.models.memory_frame import Lane, MemoryFrame, MemoryView
from app.ui.models.monitor_model import MonitorModel
from app.ui.widgets.graph_moment import (
    forecast_rows,
    forecast_title,
    moment_rows,
    moment_title,
)
from app.ui.widgets.graph_projection import as_points, row_at
from app.ui.widgets.lane_canvas import LanePicture
from app.ui.widgets.lane_plot import LanePlot, Shot, gutter_px, make_layout
from app.ui.widgets.memory_readout import MemoryReadout, ReadoutRow

LANE_GAP_PX = 8
LOWEST_PX = 130
LABELLED_PX = 460
"""From this width on, names and values stand at the ends of the curves."""
HOVER_STEP = 1 / 60
"""How far an arrow key moves the crosshair, as a share of the picture."""
READOUT_DROP_PX = 18
"""Below the names of the phases."""
_Said = tuple[str, tuple[ReadoutRow, ...]]
"""Title and rows of the readout."""


class MemoryGraph(QWidget):
    """Draws what a MonitorModel has recorded; while it is hidden, it draws nothing.

    The pointer, or the arrow keys, move a crosshair with a readout.
    """

    def __init__(
        self,
        model: MonitorModel,
        parent: QWidget | None = None,
        *,
        forecast: ForecastModel | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("memory_graph")
        self.setAccessibleName(self.tr("Memory graph"))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumHeight(LOWEST_PX)
        # It takes what the figures below it leave; by itself it wants nothing.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Ignored)
        self._model = model
        self._forecast = forecast
        self._view = MemoryView.RECENT
        self._frame: MemoryFrame | None = None
        self._hover_share: float | None = None
        self._lanes: list[LanePlot] = []
        self._font = QFont()
        self._drawn_at_s = -math.inf
        self._gutter = 0.0
        self._gutter_for: tuple[int, ...] = ()
        self._plots: Any = None
        self._empty = QLabel(self)
        self._empty.setObjectName("memory_graph_empty")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setWordWrap(True)
        theme.set_role(self._empty, "muted")
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self._empty)
        self._readout = MemoryReadout(self)
        self._recolour()
        model.updated.connect(self._on_updated)
        model.run_started.connect(self.refresh)
        if forecast is not None:
            forecast.changed.connect(self.refresh)
        self.refresh()

    @property
    def view(self) -> MemoryView:
        """How much time is shown."""
        return self._view

    @property
    def readout(self) -> MemoryReadout:
        """The card beside the crosshair."""
        return self._readout

    @property
    def pictures(self) -> dict[Lane, LanePicture | None]:
        """What is painted in each lane."""
        return {plot.lane: plot.canvas.picture for plot in self._lanes}

    @property
    def empty_text(self) -> str:
        """What is said instead of a picture; "" while there is one."""
        return self._empty.text() if self._stack.currentWidget() is self._empty else ""

    def set_view(self, view: MemoryView) -> None:
        """Show the last minute or the run."""
        if view is not self._view:
            self._view = view
            self._hover_share = None
            self.refresh()

    def set_hover(self, share: float | None) -> None:
        """Put the crosshair at this share of the curves' width, or take it away.

        Above 1 it is in what is ahead of now.
        """
        wanted = None if share is None else min(self._last_share(), max(0.0, share))
        if wanted != self._hover_share:
            self._hover_share = wanted
            self._show_frame()

    @Slot()
    def refresh(self) -> None:
        """Draw what there is now; nothing is done while the graph cannot be seen."""
        if not self.isVisible():
            return
        frame = self._frame = self._model.frame(self._view)
        if frame is None or len(frame.times_s) == 0:
            self._show_empty()
            return
        if [lane.lane for lane in frame.lanes] != [plot.lane for plot in self._lanes]:
            self._build_lanes(tuple(lane.lane for lane in frame.lanes))
        if self._plots is not None:
            self._stack.setCurrentWidget(self._plots)
        self._drawn_at_s = -math.inf if self._model.sample is None else self._model.sample.time_s
        self._show_frame()

    @Slot()
    def _on_updated(self) -> None:
        """Draw, unless the curves would not have moved by a pixel: a narrow graph moves slower."""
        sample = self._model.sample
        if sample is None or sample.time_s - self._drawn_at_s >= self._pixel_s():
            self.refresh()

    def _pixel_s(self) -> float:
        """Seconds a device pixel stands for, a little less to allow for uneven samples."""
        scale = self._lanes[0].projection if self._lanes else None
        if scale is None:
            return 0.0
        return 0.8 * scale.span_s / (scale.plot_width_px * self.devicePixelRatioF())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.refresh()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.ApplicationPaletteChange):
            self._recolour()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.MouseMove and isinstance(event, QMouseEvent):
            self._on_pointer(event.position())
        elif event.type() == QEvent.Type.Leave:
            self.set_hover(None)
        return super().eventFilter(watched, event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Left: -HOVER_STEP, Qt.Key.Key_Right: HOVER_STEP}
        ends = {Qt.Key.Key_Home: 0.0, Qt.Key.Key_End: self._last_share()}
        key = Qt.Key(event.key())
        if key in steps:
            at = 1.0 if self._hover_share is None else self._hover_share
            self.set_hover(at + steps[key])
        elif key in ends:
            self.set_hover(ends[key])
        elif key == Qt.Key.Key_Escape and self._hover_share is not None:
            self.set_hover(None)
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if event.reason() in (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason):
            # The crosshair is what the keys move, so it shows where the focus is.
            self.set_hover(1.0)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.set_hover(None)

    def _build_lanes(self, lanes: tuple[Lane, ...]) -> None:
        # Anew as a whole: a layout of pyqtgraph that was emptied does not lay out well again.
        if self._plots is not None:
            self._stack.removeWidget(self._plots)
            self._plots.hide()
            self._plots.deleteLater()
        self._plots = make_layout()
        self._plots.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._plots.ci.layout.setSpacing(0)
        for row in range(len(lanes) - 1):
            self._plots.ci.layout.setRowSpacing(row, LANE_GAP_PX)
        viewport: QWidget = self._plots.viewport()
        viewport.setMouseTracking(True)
        viewport.installEventFilter(self)
        self._stack.addWidget(self._plots)
        self._lanes = [
            LanePlot(self._plots, lane, row=row, last=row == len(lanes) - 1)
            for row, lane in enumerate(lanes)
        ]
        for row, plot in enumerate(self._lanes):
            # The GPU's lane is the one that matters when there are two.
            self._plots.ci.layout.setRowStretchFactor(row, 4 - 2 * row)
            plot.resized.connect(self._on_plot_resized)
        self._recolour()

    def _on_plot_resized(self, *_: object) -> None:
        for plot in self._lanes:
            plot.place()
        self._show_frame()

    def _recolour(self) -> None:
        if self._plots is not None:
            self._plots.setBackground(QColor(theme.colours().surface))
        self._font = QFont(self.font())
        self._font.setPixelSize(theme.FONT_SMALL_PX - 1)
        self._font.setFeature(QFont.Tag("tnum"), 1)
        self._gutter_for = ()
        for plot in self._lanes:
            plot.recolour(self._font)
        self._show_frame()

    def _show_empty(self) -> None:
        if self._view is MemoryView.RUN:
            text = self.tr("No run yet. Click Generate, and its memory is recorded here.")
        else:
            text = self.tr("Waiting for the first figures…")
        self._empty.setText(text)
        self._stack.setCurrentWidget(self._empty)
        self._readout.hide()

    def _show_frame(self) -> None:
        """Make pictures of the frame at hand: after new values, a new size or a moved pointer."""
        frame = self._frame
        if frame is None or len(frame.times_s) == 0:
            return
        shot = Shot(
            frame=frame,
            times=as_points(frame.times_s),
            gutter_px=self._gutter_px(frame),
            hover_share=self._hover_share,
            pixel_ratio=self.devicePixelRatioF(),
            forecast=None if self._forecast is None else self._forecast.forecast(self._view),
        )
        for plot, lane in zip(self._lanes, frame.lanes, strict=False):
            plot.show(lane, shot)
        self._show_readout(shot)

    def _gutter_px(self, frame: MemoryFrame) -> float:
        if self.width() < LABELLED_PX:
            return 0.0
        totals = tuple(lane.total_bytes for lane in frame.lanes)
        if totals != self._gutter_for:
            self._gutter_for = totals
            self._gutter = gutter_px(frame, self._font)
        return self._gutter

    def _show_readout(self, shot: Shot) -> None:
        scale = self._lanes[0].projection if self._lanes else None
        if scale is None or shot.hover_share is None:
            self._readout.hide()
            return
        x = shot.hover_share * scale.plot_width_px
        if shot.hover_share > 1:
            said = self._said_ahead(shot, x)
        else:
            row = row_at(shot.times, scale.time_s(x))
            said = None if row is None else _said_at(shot, row)
        if said is None:
            self._readout.hide()
            return
        corner = self._lanes[0].canvas.pos()
        self._readout.show_at(round(corner.x() + x), corner.y() + READOUT_DROP_PX, *said)

    def _said_ahead(self, shot: Shot, x_px: float) -> _Said | None:
        """What is expected here, right of now."""
        for plot in self._lanes:
            picture = plot.canvas.picture
            ahead = None if picture is None else picture.ahead
            number = None if ahead is None else ahead.box_at(x_px)
            if number is not None and shot.forecast is not None:
                box = shot.forecast.ahead[number]
                return forecast_title(box), forecast_rows(shot.forecast.lane, box)
        return None

    def _last_share(self) -> float:
        """How far right the crosshair may go: into what is ahead where there is something."""
        for plot in self._lanes:
            picture = plot.canvas.picture
            if picture is not None and picture.ahead is not None:
                return 1.0 + picture.ahead.width_px / picture.plot_width_px
        return 1.0

    def _on_pointer(self, position: QPointF) -> None:
        scale = self._lanes[0].projection if self._lanes else None
        if scale is None:
            return
        x = position.x() - self._lanes[0].canvas.x()
        inside = 0 <= x <= scale.plot_width_px * self._last_share()
        self.set_hover(x / scale.plot_width_px if inside else None)


def _said_at(shot: Shot, row: int) -> _Said:
    """What was recorded in a row."""
    return moment_title(shot.frame, float(shot.times[row])), moment_rows(shot.frame, row)
