"""A slim bar in the accent colour: how far, or that something is going on."""

from PySide6.QtCore import QRectF, Qt, QTimer, Slot
from PySide6.QtGui import QColor, QHideEvent, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import QProgressBar, QWidget

from app.ui import theme

FRAME_MS = 40
BUSY_PERIOD_MS = 1600
BUSY_SHARE = 0.28
"""Part of the bar that the moving piece takes."""
_STEPS = 1000


class ProgressBar(QProgressBar):
    """Determinate, busy or idle; only moves while it is seen."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setTextVisible(False)
        self._fraction: float | None = 0.0
        self._phase_ms = 0
        self._animation = QTimer(self)
        self._animation.setInterval(FRAME_MS)
        self._animation.timeout.connect(self._advance)
        self.set_fraction(0.0)

    @property
    def fraction(self) -> float | None:
        """0 to 1, or None while busy."""
        return self._fraction

    def set_fraction(self, fraction: float | None) -> None:
        """Show how far it is, or a moving piece when None."""
        self._fraction = fraction
        if fraction is None:
            self.setRange(0, 0)
        else:
            self.setRange(0, _STEPS)
            self.setValue(round(fraction * _STEPS))
        self._animate()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        colours = theme.colours()
        area = QRectF(self.rect())
        radius = area.height() / 2
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.border))
        painter.drawRoundedRect(area, radius, radius)
        painter.setBrush(QColor(colours.accent))
        for left, right in self._filled():
            piece = QRectF(area.x() + left * area.width(), area.y(), 0, area.height())
            piece.setWidth(max((right - left) * area.width(), area.height()))
            painter.drawRoundedRect(piece, radius, radius)
        painter.end()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._animate()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._animation.stop()

    def _filled(self) -> list[tuple[float, float]]:
        """Filled parts of the bar, as shares of its width."""
        if self._fraction is not None:
            return [(0.0, min(1.0, self._fraction))] if self._fraction > 0 else []
        left = self._phase_ms / BUSY_PERIOD_MS * (1 + BUSY_SHARE) - BUSY_SHARE
        return [(max(0.0, left), min(1.0, left + BUSY_SHARE))]

    def _animate(self) -> None:
        if self._fraction is None and self.isVisible():
            if not self._animation.isActive():
                self._animation.start()
        else:
            self._animation.stop()

    @Slot()
    def _advance(self) -> None:
        self._phase_ms = (self._phase_ms + FRAME_MS) % BUSY_PERIOD_MS
        self.update()
