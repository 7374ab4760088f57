"""One lane of the memory graph: the widget that paints curves, limit, marks, peak and labels.

It lies over a plot of pyqtgraph, which draws the axes. Its pixels are kept and moved rather than
made of plot items, which cost several times as much, and this is done ten times a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.ui import theme
from app.ui.models.memory_frame import Lane
from app.ui.widgets.curve_layer import CurveLayer, CurveLook, Curves
from app.ui.widgets.forecast_layer import AheadLayer, ForecastLook
from app.ui.widgets.forecast_shape import AheadShape
from app.ui.widgets.graph_scale import spread
from app.ui.widgets.series_style import Role, SeriesStyle, series_style
from app.ui.widgets.text_cache import TextCache

TITLE_GAP_PX = 3.0
LABEL_GAP_PX = 3.0
PEAK_RADIUS_PX = 3.5
_LABEL_ALPHA = 215


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLabel:
    """A value and a name in the gutter at the right end, at the height of what they tell.

    Attributes:
        y_px: Where the curve ends.
        value: Comes first; may be "".
        text: The name.
        colour: Of the short line to the curve; None without one.
    """

    y_px: float
    value: str
    text: str
    colour: QColor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePicture:
    """Everything a lane paints, in pixels of the plot (from the top left).

    Attributes:
        plot_width_px: Where the curves end and the gutter begins.
        curves: Ours and everyone's.
        limit_y_px: Height of the line of the total; None when it is out of sight.
        marks: Positions and names of vertical lines, in rising order.
        peak: Where our peak is; None when it is out of sight.
        peak_text: What stands beside it.
        labels: In the gutter, top first.
        labels_x_px: Where the gutter with the labels begins.
        ahead: What is ahead of now; None where nothing is.
        budget_y_px: Height of the line of what our engine may use; None without one.
        budget_text: Stands on that line; "" where a label tells it, or nothing does.
        hover_x_px: Where the crosshair is; None without one.
        hover_y_px: Heights of the dots on it.
    """

    plot_width_px: float
    curves: Curves
    limit_y_px: float | None
    marks: tuple[tuple[float, str], ...] = ()
    peak: tuple[float, float] | None = None
    peak_text: str = ""
    labels: tuple[LaneLabel, ...] = ()
    labels_x_px: float = 0.0
    ahead: AheadShape | None = None
    budget_y_px: float | None = None
    budget_text: str = ""
    hover_x_px: float | None = None
    hover_y_px: tuple[float, ...] = ()


class LaneCanvas(QWidget):
    """Paints one LanePicture over a plot, in the colours of the theme; lets the pointer through."""

    def __init__(self, parent: QWidget, lane: Lane, title: str, *, shows_marks: bool) -> None:
        """Paint nothing yet.

        Args:
            parent: Has the plot in it.
            lane: Which memory.
            title: Written into the upper left corner.
            shows_marks: Whether names stand at the marks' lines.
        """
        super().__init__(parent)
        self.setObjectName(f"memory_lane_{lane.value}")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        # All of it is painted, so the plot behind need not be.
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._lane = lane
        self._title = title
        self._shows_marks = shows_marks
        self._picture: LanePicture | None = None
        self._layer = CurveLayer()
        self._ahead = AheadLayer()
        self._texts = TextCache(self.font())
        self.recolour()

    @property
    def ours_style(self) -> SeriesStyle:
        """The look of our series at the moment."""
        return self._ours

    @property
    def others_style(self) -> SeriesStyle:
        """The look of everyone else's series at the moment."""
        return self._others

    @property
    def limit_colour(self) -> QColor:
        """Of the line of the total, at the moment."""
        return self._limit

    @property
    def layer(self) -> CurveLayer:
        """Where the curves are kept as pixels."""
        return self._layer

    @property
    def ahead_layer(self) -> AheadLayer:
        """Where what is ahead is kept as pixels."""
        return self._ahead

    @property
    def picture(self) -> LanePicture | None:
        """What is painted."""
        return self._picture

    def set_small_font(self, font: QFont) -> None:
        """Write with this."""
        self._texts = TextCache(font)
        self._ahead.forget()
        self.update()

    def set_picture(self, picture: LanePicture | None) -> None:
        """Paint this from now on."""
        self._picture = picture
        self.update()

    def recolour(self) -> None:
        """Take the colours of the scheme in use now."""
        scheme = theme.colours()
        self._ours = series_style(self._lane, Role.OURS)
        self._others = series_style(self._lane, Role.OTHERS)
        self._text = QColor(scheme.text)
        self._muted = QColor(scheme.muted)
        self._limit = QColor(scheme.graph_total)
        self._behind_text = QColor(scheme.surface)
        self._behind_text.setAlpha(_LABEL_ALPHA)
        self._surface = QColor(scheme.surface)
        self._forecast_look = ForecastLook(
            line=self._ours.line,
            over=QColor(scheme.danger),
            surface=self._surface,
            name=self._muted,
        )
        self._look = CurveLook(
            ours=self._ours,
            others=self._others,
            forecast=self._forecast_look,
            surface=self._surface,
            grid=QColor(scheme.border),
        )
        self._layer.forget()
        self._ahead.forget()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        painter = QPainter(self)
        picture = self._picture
        if picture is None:
            painter.fillRect(self.rect(), self._surface)
        else:
            self._paint_picture(painter, picture)
        painter.end()

    def _paint_picture(self, painter: QPainter, picture: LanePicture) -> None:
        gutter = QRect(self.rect())
        gutter.setLeft(int(picture.plot_width_px))
        painter.fillRect(gutter, self._surface)
        self._layer.paint(painter, picture.curves, self._look)
        if picture.ahead is not None:
            self._ahead.paint(
                painter,
                picture.ahead,
                self._forecast_look,
                self._texts,
                self.height(),
                names=self._shows_marks,
            )
        self._paint_limits(painter, picture)
        self._paint_marks(painter, picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=True)
        self._paint_budget(painter, picture)
        self._paint_title(painter, picture)
        self._paint_mark_names(painter, picture)
        self._paint_peak(painter, picture)
        self._paint_labels(painter, picture.labels, picture.labels_x_px)
        self._paint_hover(painter, picture)

    def _paint_limits(self, painter: QPainter, picture: LanePicture) -> None:
        right = picture.plot_width_px
        if picture.ahead is not None:
            right += picture.ahead.width_px
        for y, dashes in ((picture.limit_y_px, [6, 4]), (picture.budget_y_px, None)):
            if y is None:
                continue
            pen = QPen(self._limit, 0)
            if dashes is not None:
                pen.setDashPattern(dashes)
            painter.setPen(pen)
            painter.drawLine(QPointF(0, y), QPointF(right, y))

    def _paint_budget(self, painter: QPainter, picture: LanePicture) -> None:
        """Name the line, where the line of the total leaves room above it."""
        place = self._budget_place(picture)
        if not place.isNull():
            self._texts.draw(
                painter,
                place.topLeft(),
                picture.budget_text,
                self._muted,
                patch=self._behind_text,
            )

    def _budget_place(self, picture: LanePicture) -> QRectF:
        """Where the line's name stands; nowhere where there is none, or no room."""
        y, total = picture.budget_y_px, picture.limit_y_px or 0.0
        height = self._texts.height
        if y is None or not picture.budget_text or y - total <= height + TITLE_GAP_PX:
            return QRectF()
        return QRectF(4, y - height - 1, self._texts.patch_width(picture.budget_text), height)

    def _paint_marks(self, painter: QPainter, picture: LanePicture) -> None:
        pen = QPen(self._muted, 0)
        pen.setDashPattern([1, 3])
        painter.setPen(pen)
        for x, _ in picture.marks:
            painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))

    def _paint_mark_names(self, painter: QPainter, picture: LanePicture) -> None:
        if not self._shows_marks:
            return
        for (x, name), room in zip(picture.marks, self._room(picture), strict=True):
            if self._texts.width(name) + 2 * LABEL_GAP_PX <= room:
                self._texts.draw(painter, QPointF(x + LABEL_GAP_PX, 1), name, self._muted)

    def _room(self, picture: LanePicture) -> list[float]:
        """Pixels from each mark to the next one, or to the end."""
        right = self.width() if picture.ahead is None else picture.plot_width_px
        ends = [x for x, _ in picture.marks[1:]] + [right]
        return [end - x for (x, _), end in zip(picture.marks, ends, strict=False)]

    def _paint_title(self, painter: QPainter, picture: LanePicture) -> None:
        top = self._texts.height + 6 if self._shows_marks else 4.0
        lines = (picture.limit_y_px, picture.budget_y_px)
        for y in sorted(line for line in lines if line is not None):
            if top - TITLE_GAP_PX < y < top + self._texts.height + TITLE_GAP_PX:
                # A line through it would read as struck out.
                top = y + TITLE_GAP_PX
        self._texts.draw(
            painter, QPointF(4, top), self._title, self._muted, patch=self._behind_text
        )

    def _paint_peak(self, painter: QPainter, picture: LanePicture) -> None:
        if picture.peak is None:
            return
        x, y = picture.peak
        width = self._texts.patch_width(picture.peak_text)
        left = min(max(x - width / 2, 2.0), max(2.0, picture.plot_width_px - width - 2))
        above = y - PEAK_RADIUS_PX - 3 - self._texts.height
        top = above if above >= 0 else y + PEAK_RADIUS_PX + 3
        place = beside(
            QRectF(left, top, width, self._texts.height),
            self._budget_place(picture),
            right_px=picture.plot_width_px,
        )
        self._texts.draw(
            painter, place.topLeft(), picture.peak_text, self._text, patch=self._behind_text
        )
        painter.setPen(QPen(self._surface, 1.5))
        painter.setBrush(self._ours.line)
        painter.drawEllipse(QPointF(x, y), PEAK_RADIUS_PX, PEAK_RADIUS_PX)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _paint_labels(self, painter: QPainter, labels: Sequence[LaneLabel], left_px: float) -> None:
        line = self._texts.height
        centres = spread(
            [label.y_px for label in labels],
            gap=line,
            low=line / 2,
            high=self.height() - line / 2,
        )
        for label, centre in zip(labels, centres, strict=True):
            top = centre - line / 2
            left = left_px + LABEL_GAP_PX
            if label.colour is not None:
                painter.setPen(QPen(label.colour, 0))
                painter.drawLine(QPointF(left, label.y_px), QPointF(left + 5, centre))
            left += 5 + LABEL_GAP_PX
            if label.value:
                self._texts.write(painter, QPointF(left, top), label.value, self._text)
                left += self._texts.width(label.value + " ")
            self._texts.draw(painter, QPointF(left, top), label.text, self._muted)

    def _paint_hover(self, painter: QPainter, picture: LanePicture) -> None:
        x = picture.hover_x_px
        if x is None:
            return
        painter.setPen(QPen(self._muted, 0))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
        painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=True)
        painter.setBrush(self._surface)
        for y, style in zip(picture.hover_y_px, (self._ours, self._others), strict=False):
            painter.setPen(QPen(style.line, 1.5))
            painter.drawEllipse(QPointF(x, y), 3, 3)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def beside(text: QRectF, taken: QRectF, *, right_px: float) -> QRectF:
    """Where a text goes so that it does not stand on another one: right of it, else below it."""
    if taken.isNull() or not text.intersects(taken):
        return text
    moved = QRectF(text)
    moved.moveLeft(taken.right() + LABEL_GAP_PX)
    if moved.right() > right_px:
        moved = QRectF(text)
        moved.moveTop(taken.bottom() + LABEL_GAP_PX)
    return moved
