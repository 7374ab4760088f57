"""Short texts kept as pixels: those that stay the same need not be laid out ten times a second."""

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPixmap

MAX_TEXTS = 128
PATCH_PAD_PX = 4.0
_PATCH_RADIUS_PX = 3.0


class TextCache:
    """Draws texts of one font.

    Attributes:
        metrics: Of the font.
        height: Pixels a text takes, also on a patch.
    """

    def __init__(self, font: QFont) -> None:
        self.metrics = QFontMetricsF(font)
        self._font = font
        self._texts: dict[tuple[str, int, int, float], QPixmap] = {}
        self._widths: dict[str, float] = {}
        self.height = self.metrics.height()
        self._ascent = self.metrics.ascent()

    def width(self, text: str) -> float:
        """Pixels a text takes."""
        width = self._widths.get(text)
        if width is None:
            if len(self._widths) >= MAX_TEXTS:
                self._widths.clear()
            width = self._widths[text] = self.metrics.horizontalAdvance(text)
        return width

    def patch_width(self, text: str) -> float:
        """Pixels a text on a patch takes."""
        return self.width(text) + 2 * PATCH_PAD_PX

    def draw(
        self,
        painter: QPainter,
        at: QPointF,
        text: str,
        colour: QColor,
        *,
        patch: QColor | None = None,
    ) -> None:
        """Draw a text with its upper left corner here, on a patch of colour if one is given."""
        ratio = painter.device().devicePixelRatioF()
        key = (text, colour.rgba(), 0 if patch is None else patch.rgba(), ratio)
        pixels = self._texts.get(key)
        if pixels is None:
            if len(self._texts) >= MAX_TEXTS:
                self._texts.clear()
            pixels = self._texts[key] = self._paint(text, colour, patch, ratio)
        # On whole pixels: between them the letters would blur.
        place = QPointF(round(at.x() * ratio) / ratio, round(at.y() * ratio) / ratio)
        painter.drawPixmap(place, pixels)

    def write(self, painter: QPainter, at: QPointF, text: str, colour: QColor) -> None:
        """The same for a text that changes often: written directly, nothing is kept."""
        painter.setFont(self._font)
        painter.setPen(colour)
        painter.drawText(QPointF(at.x(), at.y() + self._ascent), text)

    def _paint(self, text: str, colour: QColor, patch: QColor | None, ratio: float) -> QPixmap:
        pad = 0.0 if patch is None else PATCH_PAD_PX
        width, height = self.width(text) + 2 * pad, self.height
        made = QPixmap(round(width * ratio) + 1, round(height * ratio) + 1)
        made.setDevicePixelRatio(ratio)
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if patch is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(patch)
            box = QRectF(0, 0, width, height)
            painter.drawRoundedRect(box, _PATCH_RADIUS_PX, _PATCH_RADIUS_PX)
        painter.setFont(self._font)
        painter.setPen(colour)
        painter.drawText(QPointF(pad, self._ascent), text)
        painter.end()
        return made
