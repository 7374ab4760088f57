"""The curves of a lane, kept as pixels: each tick moves them left and paints only what is new.

Painting a minute of two noisy areas anew costs ten times as much as everything else a tick does,
because filling an outline costs as many steps as it has points on every line of pixels. Curves
move by whole pixels, so that what is kept stays exactly what a new painting would give.
"""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap

from app.ui.models.forecast_frame import ForecastBox
from app.ui.widgets.forecast_layer import ForecastLook, paint_boxes
from app.ui.widgets.forecast_shape import behind_shapes
from app.ui.widgets.graph_projection import Points, Projection, area, area_above, polygon
from app.ui.widgets.series_style import SeriesStyle

LINE_PX = 1.5
SEAM_PX = 3.0
"""Painted again left of what is new: the width of a line and its smoothed edge."""
STRIPES_PX = 192
"""A whole number of stripes at each common pixel ratio (1, 1.25, 1.5, 1.75, 2, 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Two curves in pixels of the plot, and how they came about.

    Attributes:
        projection: From which values became pixels.
        recording: Which rows these are; others than before are painted anew, more of them are not.
        xs: Of the points, rising.
        ours: Heights of our curve.
        used: Heights of the curve of everyone, above ours.
        parts: Within ours, from the top: upper and lower heights of each part, and its look.
        grid_y_px: Heights of the grid's lines.
        forecast: What the curves run over.
    """

    projection: Projection
    recording: object
    xs: Points
    ours: Points
    used: Points
    grid_y_px: tuple[float, ...]
    forecast: tuple[ForecastBox, ...] = ()
    parts: tuple["CurvePart", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePart:
    """A part of ours between two lines, in pixels of the plot."""

    upper: Points
    lower: Points
    style: SeriesStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLook:
    """Looks of the two series and the forecast, and the colours behind them."""

    ours: SeriesStyle
    others: SeriesStyle
    forecast: ForecastLook
    surface: QColor
    grid: QColor


class CurveLayer:
    """Pixels of one lane's curves.

    Attributes:
        painted_whole: How often everything was painted; for tests.
    """

    def __init__(self) -> None:
        self.painted_whole = 0
        self._pixmap = QPixmap()
        self._key: object = None
        self._left_s = 0.0
        self._fixed_x = 0.0

    def forget(self) -> None:
        """Paint everything with the next call: the colours have changed."""
        self._key = None

    def paint(self, painter: QPainter, curves: Curves, look: CurveLook) -> None:
        """Paint the grid, the areas and the curves, through the layer."""
        ratio = painter.device().devicePixelRatioF()
        scale = curves.projection
        key = (
            ratio,
            curves.recording,
            scale.span_s,
            scale.plot_width_px,
            scale.top_bytes,
            scale.height_px,
            curves.grid_y_px,
            curves.forecast,
            len(curves.parts),
        )
        moved = round((scale.left_s - self._left_s) * scale.plot_width_px / scale.span_s * ratio)
        width = round(scale.plot_width_px * ratio)
        if key == self._key and 0 <= moved < width:
            self._advance(curves, moved, ratio, look)
        else:
            self._begin(curves, ratio, look)
        self._key = key
        self._left_s = scale.left_s
        # The last point may still change (a row of a long recording fills up), and with it the
        # line that leads to it.
        self._fixed_x = float(curves.xs[-2]) if len(curves.xs) > 1 else 0.0
        painter.drawPixmap(QPointF(0, 0), self._pixmap)

    def _begin(self, curves: Curves, ratio: float, look: CurveLook) -> None:
        self.painted_whole += 1
        scale = curves.projection
        self._pixmap = QPixmap(
            max(1, round(scale.plot_width_px * ratio)), max(1, round(scale.height_px * ratio))
        )
        self._pixmap.setDevicePixelRatio(ratio)
        # Without transparency, putting it on the screen is a plain copy.
        self._pixmap.fill(look.surface)
        self._paint_from(curves, 0, 0.0, look)

    def _advance(self, curves: Curves, moved: int, ratio: float, look: CurveLook) -> None:
        if moved:
            size = self._pixmap.size()
            self._pixmap.scroll(-moved, 0, QRect(0, 0, size.width(), size.height()))
        left_x = max(0.0, float(int(self._fixed_x - moved / ratio - SEAM_PX)))
        first = max(0, int(curves.xs.searchsorted(left_x - SEAM_PX)) - 1)
        self._paint_from(curves, first, left_x, look)

    def _paint_from(self, curves: Curves, first: int, left_x: float, look: CurveLook) -> None:
        """Paint the points from `first` on, into everything right of `left_x`."""
        scale = curves.projection
        box = QRectF(left_x, 0, scale.plot_width_px + 1 - left_x, scale.height_px + 1)
        xs, ys_ours, ys_used = curves.xs[first:], curves.ours[first:], curves.used[first:]
        painter = QPainter(self._pixmap)
        painter.setClipRect(box)
        painter.fillRect(box, look.surface)
        painter.setPen(QPen(look.grid, 0))
        for y in curves.grid_y_px:
            painter.drawLine(QPointF(left_x, y), QPointF(box.right(), y))
        if curves.forecast:
            paint_boxes(
                painter, behind_shapes(curves.forecast, scale), look.forecast, scale.height_px
            )
        painter.setPen(Qt.PenStyle.NoPen)
        # The stripes move along, however often they are painted anew.
        passed_px = scale.left_s * scale.plot_width_px / scale.span_s
        painter.setBrushOrigin(QPointF(-(passed_px % STRIPES_PX), 0))
        outlines = [(area(xs, ys_used, ys_ours), look.others)]
        if not curves.parts:
            outlines.append((area_above(xs, ys_ours, scale.height_px), look.ours))
        outlines += [
            (area(xs, part.upper[first:], part.lower[first:]), part.style) for part in curves.parts
        ]
        for outline, style in outlines:
            for brush in (style.tint, style.hatch):
                if brush is not None:
                    painter.setBrush(brush)
                    painter.drawPolygon(outline)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for part in curves.parts[1:]:
            painter.setPen(QPen(part.style.line, 1.0))
            painter.drawPolyline(polygon(xs, part.upper[first:]))
        for ys, style in ((ys_used, look.others), (ys_ours, look.ours)):
            painter.setPen(QPen(style.line, LINE_PX))
            painter.drawPolyline(polygon(xs, ys))
        painter.end()
