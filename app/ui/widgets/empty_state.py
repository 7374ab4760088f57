"""What stands where nothing is yet: an icon, a line, and what to do about it."""

from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter

from app.ui import theme

ICON_EDGE_PX = 56
MAX_TEXT_WIDTH_PX = 360


def paint_empty_state(
    painter: QPainter, area: QRectF, title: str, hint: str, *, icon: str = "image"
) -> None:
    """Draw icon, title and hint in the middle of an area; only the hint where there is no room."""
    colours = theme.colours()
    gap = theme.SPACING_PX
    width = min(MAX_TEXT_WIDTH_PX, area.width() - 4 * gap)
    title_font, hint_font = QFont(painter.font()), QFont(painter.font())
    title_font.setPixelSize(theme.FONT_TITLE_PX)
    title_font.setWeight(QFont.Weight.DemiBold)
    hint_font.setPixelSize(theme.FONT_BODY_PX)
    flags = Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWordWrap

    def height_of(font: QFont, text: str) -> float:
        painter.setFont(font)
        return painter.boundingRect(QRectF(0, 0, width, 10_000), flags, text).height()

    title_height, hint_height = height_of(title_font, title), height_of(hint_font, hint)
    text_height = title_height + gap + hint_height
    with_title = area.height() >= text_height + gap
    if not with_title:
        text_height = hint_height
    with_icon = area.height() >= text_height + ICON_EDGE_PX + 4 * gap
    icon_height = ICON_EDGE_PX + 2 * gap if with_icon else 0
    left = area.center().x() - width / 2
    top = area.center().y() - (text_height + icon_height) / 2
    painter.save()
    if with_icon:
        edge = QRect(round(area.center().x() - ICON_EDGE_PX / 2), round(top), ICON_EDGE_PX, 0)
        edge.setHeight(ICON_EDGE_PX)
        painter.setOpacity(0.55)
        theme.icon(icon, "muted").paint(painter, edge)
        painter.setOpacity(1.0)
        top += icon_height
    if with_title:
        painter.setFont(title_font)
        painter.setPen(QColor(colours.text))
        painter.drawText(QRectF(left, top, width, title_height), flags, title)
        top += title_height + gap
    painter.setFont(hint_font)
    painter.setPen(QColor(colours.muted))
    painter.drawText(QRectF(left, top, width, hint_height), flags, hint)
    painter.restore()
