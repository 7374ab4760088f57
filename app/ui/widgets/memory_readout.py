"""The small card that follows the pointer over the memory graph."""

from dataclasses import dataclass

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app.ui import theme
from app.ui.models.memory_frame import Lane
from app.ui.widgets.series_style import Role, paint_swatch, series_style

PADDING_PX = 8
SWATCH_PX = QSize(12, 9)
POINTER_GAP_PX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadoutRow:
    """One line of the card: a series, its name and its value."""

    lane: Lane
    role: Role
    name: str
    value: str


class MemoryReadout(QWidget):
    """Shows a moment's values; never takes the pointer itself."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._parent = parent
        self.setObjectName("memory_readout")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._title = ""
        self._rows: tuple[ReadoutRow, ...] = ()
        self.hide()

    @property
    def text(self) -> str:
        """What it says, line by line."""
        return "\n".join([self._title, *(f"{row.name} {row.value}" for row in self._rows)])

    def show_at(self, x_px: int, y_px: int, title: str, rows: tuple[ReadoutRow, ...]) -> None:
        """Say this beside a point of the parent, inside of it."""
        if title != self._title or rows != self._rows:
            self._title, self._rows = title, rows
            self.resize(self._wanted_size())
            self.update()
        self.move(self._place(x_px, y_px))
        self.show()
        self.raise_()

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        scheme = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(scheme.border), 1))
        painter.setBrush(QColor(scheme.raised))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        metrics = QFontMetrics(self._font())
        painter.setFont(self._font())
        baseline = PADDING_PX + metrics.ascent()
        painter.setPen(QColor(scheme.muted))
        painter.drawText(QPointF(PADDING_PX, baseline), self._title)
        for row in self._rows:
            baseline += metrics.lineSpacing() + 2
            swatch = QRectF(
                PADDING_PX,
                baseline - metrics.ascent() / 2 - SWATCH_PX.height() / 2 + 1,
                SWATCH_PX.width(),
                SWATCH_PX.height(),
            )
            paint_swatch(painter, swatch, series_style(row.lane, row.role))
            painter.setPen(QColor(scheme.text))
            painter.drawText(QPointF(PADDING_PX + SWATCH_PX.width() + 6, baseline), row.name)
            right = self.width() - PADDING_PX - metrics.horizontalAdvance(row.value)
            painter.drawText(QPointF(right, baseline), row.value)
        painter.end()

    def _font(self) -> QFont:
        font = QFont(self.font())
        font.setPixelSize(theme.FONT_SMALL_PX)
        font.setFeature(QFont.Tag("tnum"), 1)
        return font

    def _wanted_size(self) -> QSize:
        metrics = QFontMetrics(self._font())
        row_gap = SWATCH_PX.width() + 6 + 16
        widths = [metrics.horizontalAdvance(row.name + row.value) + row_gap for row in self._rows]
        width = max([metrics.horizontalAdvance(self._title), *widths])
        height = metrics.height() + len(self._rows) * (metrics.lineSpacing() + 2)
        return QSize(width + 2 * PADDING_PX, height + 2 * PADDING_PX)

    def _place(self, x_px: int, y_px: int) -> QPoint:
        """Right of the point, or left of it where there is no room."""
        around = self._parent.rect()
        left = x_px + POINTER_GAP_PX
        if left + self.width() > around.right():
            left = x_px - POINTER_GAP_PX - self.width()
        box = QRect(left, y_px, self.width(), self.height())
        left = max(around.left(), box.left())
        top = max(around.top(), min(box.top(), around.bottom() - box.height()))
        return QPoint(left, top)
