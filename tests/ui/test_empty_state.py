"""What stands where nothing is yet: all of it where there is room, and never cut off."""

import pytest
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QImage, QPainter

from app.ui.widgets.empty_state import paint_empty_state

WIDTH_PX, HIGHEST_PX = 320, 200


def painted_rows(height_px: int) -> list[int]:
    """Rows with anything on them, when it is painted into the middle of a larger picture."""
    image = QImage(WIDTH_PX, HIGHEST_PX, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.magenta)
    background = image.pixel(0, 0)
    painter = QPainter(image)
    area = QRectF(0, (HIGHEST_PX - height_px) / 2, WIDTH_PX, height_px)
    paint_empty_state(
        painter, area, "Nothing is here", "Some words about how something comes here, in two lines."
    )
    painter.end()
    return [
        y
        for y in range(HIGHEST_PX)
        if any(image.pixel(x, y) != background for x in range(WIDTH_PX))
    ]


@pytest.mark.parametrize("height_px", [44, 60, 80, 180])
def test_it_stays_within_its_area(qapp, height_px: int):
    rows = painted_rows(height_px)
    assert rows
    assert rows[0] >= (HIGHEST_PX - height_px) / 2
    assert rows[-1] <= (HIGHEST_PX + height_px) / 2


def test_with_more_room_there_is_more(qapp):
    heights = [len(painted_rows(height_px)) for height_px in (44, 80, 180)]
    assert heights == sorted(set(heights))
