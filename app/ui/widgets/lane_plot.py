"""One lane of the memory graph: its plot with axes, and the picture painted into it."""

import importlib
import math
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QCoreApplication, QRect, QRectF
from PySide6.QtGui import QColor, QFont, QFontMetricsF

from app.core.units import format_bytes
from app.ui import theme
from app.ui.models.forecast_frame import Forecast
from app.ui.models.memory_frame import Lane, LaneFrame, MemoryFrame, MemoryView, Peak
from app.ui.widgets.curve_layer import Curves
from app.ui.widgets.forecast_shape import AheadShape, ahead_shape, ahead_width_px
from app.ui.widgets.graph_projection import Points, Projection, as_points
from app.ui.widgets.graph_scale import (
    RECENT_S,
    Tick,
    format_ahead,
    format_gb,
    lane_top_bytes,
    memory_ticks,
    recent_ticks,
    run_span_s,
    time_ticks,
)
from app.ui.widgets.lane_canvas import LaneCanvas, LaneLabel, LanePicture
from app.ui.widgets.lane_parts import curve_parts, part_labels
from app.ui.widgets.lane_places import hover_at, marks_at, peak_at
from app.ui.widgets.series_style import (
    Role,
    lane_name,
    series_name,
    short_name,
)

AXIS_WIDTH_PX = 52
TICK_EVERY_PX = 38
TIME_TICK_EVERY_PX = 64
EDGE_PX = 14.0
"""Room right of the curves where no labels stand: the last time of the axis needs it."""
AHEAD_TICK_PX = 10.0
"""How far left of the end of what is ahead its time stands, so that it is not cut off."""
TOP_ROOM = 1.03
"""Above the line of the total, so that it is not the picture's edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What all lanes of one picture share.

    Attributes:
        frame: The values.
        times: The frame's times.
        gutter_px: Room for names and values right of the curves; 0 when they are left out.
        forecast: Of the plan or the run; None without one.
        hover_share: Where the crosshair is, as a share of the width; None without one.
        pixel_ratio: Device pixels for each pixel.
    """

    frame: MemoryFrame
    times: Points
    gutter_px: float
    hover_share: float | None
    pixel_ratio: float
    forecast: Forecast | None = None

    @property
    def has_ahead(self) -> bool:
        """Whether there is a zone right of now for what is ahead."""
        forecast = self.forecast
        recent = self.frame.view is MemoryView.RECENT
        return recent and forecast is not None and bool(forecast.ahead)

    def time_span(self, plot_width_px: float) -> tuple[float, float]:
        """Time at the left edge, and seconds from there to the end of the axis."""
        frame = self.frame
        if frame.view is MemoryView.RUN:
            end_s = None if self.forecast is None else self.forecast.end_s
            ahead_s = 0.0 if end_s is None else end_s - frame.origin_s
            return frame.origin_s, run_span_s(max(frame.elapsed_s, ahead_s))
        # In whole pixels of the screen: curves that creep by fractions shimmer.
        pixel_s = RECENT_S / (plot_width_px * self.pixel_ratio)
        return math.floor(frame.origin_s / pixel_s) * pixel_s - RECENT_S, RECENT_S


class LanePlot:
    """Keeps a pyqtgraph plot in step with what is to be shown; touches axes only on changes.

    Attributes:
        lane: Which memory.
        canvas: What paints the curves, over the plot.
    """

    def __init__(self, layout: Any, lane: Lane, *, row: int, last: bool) -> None:  # noqa: ANN401
        """Add a plot to a pyqtgraph layout.

        Args:
            layout: A GraphicsLayoutWidget; pyqtgraph comes without types.
            lane: Which memory.
            row: Of the layout, from 0.
            last: Whether the time axis stands below this one.
        """
        pyqtgraph: Any = importlib.import_module("pyqtgraph")
        self.lane = lane
        self._first = row == 0
        # Axes and a view, not a PlotItem: that one brings fourteen menus with it.
        self._box: Any = pyqtgraph.ViewBox(enableMenu=False)
        self._box.setMouseEnabled(x=False, y=False)
        self._left: Any = pyqtgraph.AxisItem("left")
        self._left.linkToView(self._box)
        self._left.setWidth(AXIS_WIDTH_PX)
        layout.addItem(self._left, row=row, col=0)
        layout.addItem(self._box, row=row, col=1)
        self._bottom: Any = None
        if last:
            self._bottom = pyqtgraph.AxisItem("bottom")
            self._bottom.linkToView(self._box)
            layout.addItem(self._bottom, row=row + 1, col=1)
        self.canvas = LaneCanvas(layout.viewport(), lane, lane_name(lane), shows_marks=self._first)
        self.canvas.show()
        self._metrics = QFontMetricsF(QFont())
        self._top_bytes: float | None = None
        self._ticks: tuple[Tick, ...] = ()
        self._time_ticks: tuple[Tick, ...] = ()
        self._ranges: tuple[float, ...] = ()
        self._projection: Projection | None = None
        self._ahead_px = 0.0
        self._peak: Peak | None = None
        self._peak_words = ""

    @property
    def projection(self) -> Projection | None:
        """How values became pixels in the latest picture."""
        return self._projection

    @property
    def resized(self) -> Any:  # noqa: ANN401 - a signal of pyqtgraph
        """Emitted when the plot has another size."""
        return self._box.sigResized

    def place(self) -> None:
        """Put the canvas where the plot is now, inside its axes."""
        box: QRectF = self._box.sceneBoundingRect()
        self.canvas.setGeometry(box.toRect())

    def recolour(self, font: QFont) -> None:
        """Take the theme's colours of the moment, and this font."""
        self._metrics = QFontMetricsF(font)
        for axis in (self._left, self._bottom):
            if axis is None:
                continue
            axis.setPen(QColor(0, 0, 0, 0))
            axis.setTextPen(QColor(theme.colours().muted))
            axis.setStyle(
                tickLength=0,
                tickAlpha=0,
                tickTextOffset=6,
                tickFont=font,
                hideOverlappingLabels=False,
            )
        self.canvas.set_small_font(font)
        self.canvas.recolour()

    def show(self, lane: LaneFrame, shot: Shot) -> None:
        """Paint these values."""
        box = self.canvas.rect()
        if box.width() < 1 or box.height() < 1:
            return
        ours, used = as_points(lane.ours), as_points(lane.used)
        scale = self._projection = self._scale(lane, shot, used, box)
        xs, ys_ours, ys_used = scale.xs_px(shot.times), scale.ys_px(ours), scale.ys_px(used)
        limit_y = scale.y_px(lane.total_bytes)
        hover_x, hover_y = hover_at(scale, shot.hover_share, shot.times, ys_ours, ys_used)
        forecast = shot.forecast if shot.forecast and shot.forecast.lane is self.lane else None
        self.canvas.set_picture(
            LanePicture(
                plot_width_px=scale.plot_width_px,
                curves=Curves(
                    projection=scale,
                    recording=(shot.frame.view, shot.frame.generation),
                    xs=xs,
                    ours=ys_ours,
                    used=ys_used,
                    grid_y_px=tuple(scale.y_px(value) for value, _ in self._ticks),
                    forecast=() if forecast is None else forecast.behind,
                    parts=curve_parts(lane, scale, ys_ours),
                ),
                limit_y_px=limit_y if limit_y >= 0 else None,
                marks=marks_at(scale, shot.frame.marks),
                peak=peak_at(scale, lane),
                peak_text=self._peak_text(lane),
                labels=self._labels(lane, ys_ours, ys_used, limit_y, forecast, scale)
                if shot.gutter_px
                else (),
                labels_x_px=scale.plot_width_px + self._ahead_px,
                ahead=self._ahead(forecast, scale) if shot.has_ahead else None,
                budget_y_px=_budget_y(forecast, scale),
                budget_text="" if shot.gutter_px else _budget_text(forecast),
                hover_x_px=hover_x,
                hover_y_px=hover_y,
            )
        )

    def _scale(self, lane: LaneFrame, shot: Shot, used: Points, box: QRect) -> Projection:
        """The projection of these values; the axes are told when they have to change."""
        # Whole pixels, so that the curves' pixels can be kept and moved.
        room_px = max(20.0, math.floor(box.width() - max(shot.gutter_px, EDGE_PX)))
        self._ahead_px = ahead_width_px(room_px) if shot.has_ahead else 0.0
        plot_width_px = max(20.0, room_px - self._ahead_px)
        left_s, span_s = shot.time_span(plot_width_px)
        visible = used[max(0, shot.times.searchsorted(left_s) - 1) :]
        self._top_bytes = self._top(lane, visible, shot.forecast)
        strip_px = self._metrics.height() + 3 if self._first else 6.0
        plot_height_px = max(10.0, box.height() - strip_px)
        upper_bytes = self._top_bytes * TOP_ROOM * box.height() / plot_height_px
        most = max(2, int(plot_height_px / TICK_EVERY_PX))
        self._set_ticks(memory_ticks(self._top_bytes, most=most))
        if self._bottom is not None:
            most = int(plot_width_px / TIME_TICK_EVERY_PX)
            self._set_time_ticks(
                (
                    *_time_ticks(shot.frame.view, span_s, most=most),
                    *self._ahead_ticks(shot, plot_width_px),
                )
            )
        left = -RECENT_S if shot.frame.view is MemoryView.RECENT else 0.0
        right = left + span_s * box.width() / plot_width_px
        self._set_ranges(left, right, upper_bytes)
        return Projection(
            left_s=left_s,
            span_s=span_s,
            plot_width_px=plot_width_px,
            top_bytes=upper_bytes,
            height_px=box.height(),
        )

    def _top(self, lane: LaneFrame, visible: Points, forecast: Forecast | None) -> float:
        if lane.lane is Lane.DEVICE:
            # How near the limit is, is what this lane is looked at for.
            return float(lane.total_bytes)
        highest = float(visible.max()) if len(visible) else 0.0
        if forecast is not None and forecast.lane is self.lane:
            highest = min(float(lane.total_bytes), max(highest, forecast.high_bytes))
        return lane_top_bytes(highest, lane.total_bytes, previous_bytes=self._top_bytes)

    def _ahead(self, forecast: Forecast | None, scale: Projection) -> AheadShape | None:
        if forecast is None:
            return None
        return ahead_shape(forecast, scale, left_px=scale.plot_width_px, width_px=self._ahead_px)

    def _ahead_ticks(self, shot: Shot, plot_width_px: float) -> tuple[Tick, ...]:
        """One at the end of what is ahead, in the axis' own seconds; it has another scale."""
        forecast = shot.forecast
        if forecast is None or not shot.has_ahead or forecast.ahead_s <= 0:
            return ()
        at_s = RECENT_S * (self._ahead_px - AHEAD_TICK_PX) / plot_width_px
        return ((at_s, format_ahead(forecast.ahead_s)),)

    def _labels(
        self,
        lane: LaneFrame,
        ys_ours: Points,
        ys_used: Points,
        limit_y: float,
        forecast: Forecast | None,
        scale: Projection,
    ) -> tuple[LaneLabel, ...]:
        """Names and values at the ends of the curves, top first."""
        ours, used = float(lane.ours[-1]), float(lane.used[-1])
        known = ours == ours
        return (
            LaneLabel(
                y_px=max(0.0, limit_y),
                value="",
                text=_total_text(lane, out_of_sight=limit_y < 0),
                colour=self.canvas.limit_colour if limit_y >= 0 else None,
            ),
            *self._budget_label(forecast, scale),
            LaneLabel(
                y_px=float(ys_used[-1]),
                value=format_gb(used - (ours if known else 0.0)),
                text=short_name(Role.OTHERS),
                colour=self.canvas.others_style.line,
            ),
            LaneLabel(
                y_px=float(ys_ours[-1]),
                value=format_gb(ours if known else None),
                text=series_name(Role.OURS),
                colour=self.canvas.ours_style.line,
            ),
            *part_labels(lane, scale, self.canvas.ours_style.line),
        )

    def _budget_label(self, forecast: Forecast | None, scale: Projection) -> tuple[LaneLabel, ...]:
        y = _budget_y(forecast, scale)
        if forecast is None or y is None:
            return ()
        value, text = format_gb(forecast.budget_bytes), _translated("Limit")
        return (LaneLabel(y_px=y, value=value, text=text, colour=self.canvas.limit_colour),)

    def _peak_text(self, lane: LaneFrame) -> str:
        if lane.peak is None:
            return ""
        if lane.peak != self._peak:
            self._peak = lane.peak
            size = format_bytes(round(lane.peak.value_bytes))
            self._peak_words = _translated("Peak {size}").format(size=size)
        return self._peak_words

    def _set_ticks(self, ticks: tuple[Tick, ...]) -> None:
        if ticks != self._ticks:
            self._ticks = ticks
            self._left.setTicks([ticks])

    def _set_time_ticks(self, ticks: tuple[Tick, ...]) -> None:
        if ticks != self._time_ticks:
            self._time_ticks = ticks
            self._bottom.setTicks([ticks])

    def _set_ranges(self, left: float, right: float, upper_bytes: float) -> None:
        # Rounded: the axes need no billionth of a second, and a changed range repaints them.
        ranges = (round(left, 6), round(right, 6), upper_bytes)
        if ranges != self._ranges:
            self._ranges = ranges
            self._box.setXRange(*ranges[:2], padding=0)
            self._box.setYRange(0, upper_bytes, padding=0)


def make_layout() -> Any:  # noqa: ANN401 - pyqtgraph comes without types
    """A pyqtgraph GraphicsLayoutWidget without frame and margins."""
    pyqtgraph: Any = importlib.import_module("pyqtgraph")
    layout: Any = pyqtgraph.GraphicsLayoutWidget()
    layout.setObjectName("memory_plots")
    layout.setFrameShape(layout.Shape.NoFrame)
    layout.setMinimumSize(0, 0)
    layout.ci.layout.setContentsMargins(0, 0, 0, 0)
    return layout


def gutter_px(frame: MemoryFrame, font: QFont) -> float:
    """Room for what stands right of the curves: the same in all lanes, whose times must align."""
    metrics = QFontMetricsF(font)
    texts = [f"{format_gb(lane.total_bytes)} {series_name(Role.OURS)}" for lane in frame.lanes]
    texts += [_total_text(lane, out_of_sight=True) for lane in frame.lanes]
    return max(metrics.horizontalAdvance(text) for text in texts) + 16


def _translated(text: str) -> str:
    return QCoreApplication.translate("MemoryGraph", text)


def _time_ticks(view: MemoryView, span_s: float, *, most: int) -> tuple[Tick, ...]:
    if view is MemoryView.RECENT:
        return recent_ticks(_translated("now"), most=most)
    return time_ticks(span_s, most=most)


def _budget_text(forecast: Forecast | None) -> str:
    """The name of the line on a graph too narrow for labels beside it."""
    if forecast is None or forecast.budget_bytes <= 0:
        return ""
    return _translated("Limit {size}").format(size=format_bytes(forecast.budget_bytes))


def _budget_y(forecast: Forecast | None, scale: Projection) -> float | None:
    if forecast is None or forecast.budget_bytes <= 0:
        return None
    y = scale.y_px(forecast.budget_bytes)
    return y if y >= 0 else None


def _total_text(lane: LaneFrame, *, out_of_sight: bool) -> str:
    text = _translated("{size} total").format(size=format_bytes(lane.total_bytes))
    return f"↑ {text}" if out_of_sight else text
