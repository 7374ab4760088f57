"""Paints the forecast of the memory graph; what is ahead of now is kept as pixels."""

from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap

from app.core.jobs import Phase
from app.ui.widgets.forecast_shape import AheadShape, BoxShape
from app.ui.widgets.series_style import mark_name
from app.ui.widgets.text_cache import TextCache

EXPECTED_PX = 1.5
_DASHES = (2.5, 2.0)
_DASH_PERIOD_PX = EXPECTED_PX * sum(_DASHES)
FILL_ALPHA = 30
UNSURE_ALPHA = 52
_NAME_GAP_PX = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastLook:
    """Colours of the forecast.

    Attributes:
        line: Of what is expected to fit.
        over: Of what goes over the limit.
        surface: Behind what is ahead.
        name: Of the names of the phases, and of the line where now is.
    """

    line: QColor
    over: QColor
    surface: QColor
    name: QColor


def paint_boxes(
    painter: QPainter, boxes: tuple[BoxShape, ...], look: ForecastLook, floor_px: float
) -> None:
    """Paint boxes: a fill up to what is expected, a dashed line there, a veil of uncertainty."""
    for box in boxes:
        colour = look.over if box.over else look.line
        width = box.right_px - box.left_px
        if width <= 0:
            continue
        painter.setPen(Qt.PenStyle.NoPen)
        painter.fillRect(
            QRectF(box.left_px, box.low_y_px, width, max(0.0, floor_px - box.low_y_px)),
            _with_alpha(colour, FILL_ALPHA),
        )
        painter.fillRect(
            QRectF(box.left_px, box.high_y_px, width, max(0.0, box.low_y_px - box.high_y_px)),
            _with_alpha(colour, UNSURE_ALPHA),
        )
        pen = QPen(colour, EXPECTED_PX)
        pen.setDashPattern(_DASHES)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        painter.setPen(pen)
        # A box that began an hour ago would be thousands of dashes out of sight.
        hidden = max(0, int(-box.left_px / _DASH_PERIOD_PX)) * _DASH_PERIOD_PX
        painter.drawLine(QPointF(box.left_px + hidden, box.y_px), QPointF(box.right_px, box.y_px))
    for before, box in pairwise(boxes):
        colour = look.over if box.over or before.over else look.line
        pen = QPen(_with_alpha(colour, 140), 1)
        painter.setPen(pen)
        painter.drawLine(QPointF(box.left_px, before.y_px), QPointF(box.left_px, box.y_px))


class AheadLayer:
    """Pixels of what is ahead of now.

    Attributes:
        painted: How often it was painted anew; for tests.
    """

    def __init__(self) -> None:
        self.painted = 0
        self._pixmap = QPixmap()
        self._key: object = None

    def forget(self) -> None:
        """Paint anew with the next call: the colours have changed."""
        self._key = None

    def paint(
        self,
        painter: QPainter,
        shape: AheadShape,
        look: ForecastLook,
        texts: TextCache,
        height_px: float,
        *,
        names: bool,
    ) -> None:
        """Paint it, from the kept pixels when it is as it was.

        Args:
            painter: Of the lane.
            shape: In the lane's pixels.
            look: Colours.
            texts: For the names of the phases.
            height_px: Of the lane.
            names: Whether the phases' names stand at the top.
        """
        ratio = painter.device().devicePixelRatioF()
        key = (ratio, shape, height_px, names)
        if key != self._key:
            self._key = key
            self._repaint(shape, look, texts, height_px, ratio, names=names)
        painter.drawPixmap(QPointF(shape.left_px, 0), self._pixmap)

    def _repaint(
        self,
        shape: AheadShape,
        look: ForecastLook,
        texts: TextCache,
        height_px: float,
        ratio: float,
        *,
        names: bool,
    ) -> None:
        self.painted += 1
        self._pixmap = QPixmap(
            max(1, round(shape.width_px * ratio)), max(1, round(height_px * ratio))
        )
        self._pixmap.setDevicePixelRatio(ratio)
        self._pixmap.fill(look.surface)
        painter = QPainter(self._pixmap)
        painter.translate(-shape.left_px, 0)
        paint_boxes(painter, shape.boxes, look, height_px)
        painter.setPen(QPen(_with_alpha(look.name, 130), 0))
        painter.drawLine(QPointF(shape.left_px, 0), QPointF(shape.left_px, height_px))
        if names:
            _paint_names(painter, shape, look, texts)
        painter.end()


def _paint_names(
    painter: QPainter, shape: AheadShape, look: ForecastLook, texts: TextCache
) -> None:
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for box in shape.boxes:
        name = mark_name(box.phase.value)
        if box.phase is not Phase.SAVE and texts.width(name) + 2 * _NAME_GAP_PX <= (
            box.right_px - box.left_px
        ):
            texts.draw(painter, QPointF(box.left_px + _NAME_GAP_PX, 1), name, look.name)


def _with_alpha(colour: QColor, alpha: int) -> QColor:
    made = QColor(colour)
    made.setAlpha(alpha)
    return made
