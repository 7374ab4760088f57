"""Figures beside the memory graph: now, peak and average, painted as one small table.

One painted widget instead of twenty labels: a label that changes has the whole window laid out
again, and these change several times a second.
"""

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.core.units import format_bytes
from app.ui import theme
from app.ui.models.memory_frame import LaneFigures, MemoryFigures, SeriesFigures
from app.ui.widgets.graph_scale import format_gb
from app.ui.widgets.series_style import (
    PARTS,
    Role,
    lane_name,
    paint_swatch,
    series_name,
    series_style,
)
from app.ui.widgets.text_cache import TextCache

ROW_PX = 18
GROUP_GAP_PX = 6
COLUMN_PX = 54
SWATCH = QSize(12, 9)
NAME_PX = 128
INDENT_PX = 10
"""Of what ours consists of."""


class FigureTable(QWidget):
    """Shows MemoryFigures; in GB, so that the points stand below each other.

    What our engine's memory consists of can be left out, where the graph needs the room more: a run
    must not make the window higher than its screen.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("memory_figures")
        self.setAccessibleName(self.tr("Memory figures"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self._figures = MemoryFigures()
        self._shows_parts = True
        self._make_texts()

    @property
    def figures(self) -> MemoryFigures:
        """What is shown."""
        return self._figures

    def set_figures(self, figures: MemoryFigures) -> None:
        """Show these."""
        if figures == self._figures:
            return
        other_rows = _row_counts(figures, with_parts=True) != _row_counts(
            self._figures, with_parts=True
        )
        self._figures = figures
        if other_rows:
            self.updateGeometry()
        self.update()

    def span_text(self) -> str:
        """What peak and average are about."""
        return {
            "start": self.tr("since the start"),
            "run": self.tr("this run"),
            "last run": self.tr("last run"),
            "reset": self.tr("since reset"),
        }[self._figures.span]

    def rows(self) -> tuple[tuple[str, str, str, str], ...]:
        """Name, now, peak and average of each series as they are written."""
        return tuple(
            (series_name(role), *_cells(series))
            for lane in self._figures.lanes
            for role, series in _series(lane)
        )

    def sizeHint(self) -> QSize:
        return QSize(NAME_PX + 3 * COLUMN_PX, self.height_px(with_parts=self._shows_parts))

    def minimumSizeHint(self) -> QSize:
        return QSize(NAME_PX + 3 * COLUMN_PX, self.height_px(with_parts=False))

    @property
    def shows_parts(self) -> bool:
        """Whether what our engine's memory consists of is shown."""
        return self._shows_parts

    def set_shows_parts(self, *, shows_parts: bool) -> None:
        """Show what our engine's memory consists of, or leave it out."""
        if shows_parts != self._shows_parts:
            self._shows_parts = shows_parts
            self.updateGeometry()
            self.update()

    def height_px(self, *, with_parts: bool) -> int:
        """How high all rows are together."""
        counts = _row_counts(self._figures, with_parts=with_parts) or (4,)
        return ROW_PX + sum(counts) * ROW_PX + (len(counts) - 1) * GROUP_GAP_PX

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._make_texts()

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        painter = QPainter(self)
        scheme = theme.colours()
        text, muted = QColor(scheme.text), QColor(scheme.muted)
        self._paint_head(painter, muted)
        top = float(ROW_PX)
        for lane in self._figures.lanes:
            painter.setPen(QPen(QColor(scheme.border), 1))
            painter.drawLine(QPointF(0, top + 0.5), QPointF(self.width(), top + 0.5))
            top = self._paint_lane(painter, lane, top, text, muted) + GROUP_GAP_PX
        painter.end()

    def _make_texts(self) -> None:
        plain = QFont(self.font())
        plain.setPixelSize(theme.FONT_SMALL_PX)
        plain.setFeature(QFont.Tag("tnum"), 1)
        strong = QFont(plain)
        strong.setWeight(QFont.Weight.DemiBold)
        self._plain, self._strong = TextCache(plain), TextCache(strong)

    def _paint_head(self, painter: QPainter, muted: QColor) -> None:
        name = self.tr("GB, {span}").format(span=self.span_text())
        self._paint_name(painter, self._plain, 0, name, muted)
        for index, text in enumerate((self.tr("Now"), self.tr("Peak"), self.tr("Average"))):
            right = self.width() - (2 - index) * COLUMN_PX
            self._paint_right(painter, self._plain, 0, right, text, muted)

    def _paint_lane(
        self, painter: QPainter, lane: LaneFigures, top: float, text: QColor, muted: QColor
    ) -> float:
        """Paint a group of rows and return where it ends."""
        self._paint_name(painter, self._strong, top, lane_name(lane.lane), text)
        total = self.tr("{size} total").format(size=format_bytes(lane.total_bytes))
        self._paint_right(painter, self._plain, top, self.width(), total, muted)
        for role, series in _series(lane):
            if role in PARTS and not self._shows_parts:
                continue
            top += ROW_PX
            indent = INDENT_PX if role in PARTS else 0
            if role is not Role.USED:
                swatch_top = top + (ROW_PX - SWATCH.height()) / 2
                swatch = QRectF(indent, swatch_top, SWATCH.width(), SWATCH.height())
                paint_swatch(painter, swatch, series_style(lane.lane, role))
            ours = role is Role.OURS
            name = series_name(role)
            left = SWATCH.width() + 8 + indent
            self._paint_name(painter, self._plain, top, name, text if ours else muted, left)
            self._paint_cells(painter, self._strong if ours else self._plain, top, series, text)
        return top + ROW_PX

    def _paint_name(
        self,
        painter: QPainter,
        texts: TextCache,
        top: float,
        text: str,
        colour: QColor,
        left: float = 0.0,
    ) -> None:
        room = self.width() - 3 * COLUMN_PX - left
        if texts.width(text) > room:
            text = texts.metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
        texts.draw(painter, QPointF(left, top + (ROW_PX - texts.height) / 2), text, colour)

    def _paint_cells(
        self,
        painter: QPainter,
        texts: TextCache,
        top: float,
        series: SeriesFigures,
        colour: QColor,
    ) -> None:
        for index, text in enumerate(_cells(series)):
            left = self.width() - (2 - index) * COLUMN_PX - texts.width(text)
            place = QPointF(left, top + (ROW_PX - texts.height) / 2)
            texts.write(painter, place, text, colour)

    def _paint_right(
        self,
        painter: QPainter,
        texts: TextCache,
        top: float,
        right: float,
        text: str,
        colour: QColor,
    ) -> None:
        left = right - texts.width(text)
        texts.draw(painter, QPointF(left, top + (ROW_PX - texts.height) / 2), text, colour)


def _series(lane: LaneFigures) -> tuple[tuple[Role, SeriesFigures], ...]:
    parts = lane.parts
    split = (
        ()
        if parts is None
        else (
            (Role.WORKING, parts.working),
            (Role.SLOTS, parts.slots),
            (Role.RESIDENT, parts.resident),
        )
    )
    return ((Role.OURS, lane.ours), *split, (Role.OTHERS, lane.others), (Role.USED, lane.used))


def _row_counts(figures: MemoryFigures, *, with_parts: bool) -> tuple[int, ...]:
    """Rows of each lane, its heading included."""
    return tuple(
        1 + sum(with_parts or role not in PARTS for role, _ in _series(lane))
        for lane in figures.lanes
    )


def _cells(series: SeriesFigures) -> tuple[str, str, str]:
    return (format_gb(series.now), format_gb(series.peak), format_gb(series.average))
