"""Zoom and pan as arithmetic."""

import pytest
from PySide6.QtCore import QPointF, QRectF, QSize

from app.ui.widgets.view_geometry import MAX_SCALE, ViewGeometry


def geometry(view: QSize, picture: QSize, ratio: float = 1.0) -> ViewGeometry:
    made = ViewGeometry()
    made.set_view(view, ratio)
    made.set_picture(picture)
    return made


@pytest.mark.parametrize(
    ("picture", "target"),
    [
        (QSize(100, 100), QRectF(100, 0, 200, 200)),
        (QSize(800, 200), QRectF(0, 50, 400, 100)),
        (QSize(1000, 1000), QRectF(100, 0, 200, 200)),
    ],
)
def test_fitted_picture_is_as_large_as_it_goes_and_in_the_middle(picture, target):
    made = geometry(QSize(400, 200), picture)
    assert made.target() == target
    assert not made.can_pan


def test_fit_follows_the_view():
    made = geometry(QSize(400, 200), QSize(100, 100))
    made.set_view(QSize(400, 400), 1.0)
    assert made.target() == QRectF(0, 0, 400, 400)


def test_actual_size_is_one_device_pixel_per_pixel_on_any_screen():
    made = geometry(QSize(400, 400), QSize(200, 100), ratio=2.0)
    made.zoom_to(1.0)
    assert made.target() == QRectF(150, 175, 100, 50)
    assert made.scale == 1.0


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_zoom_keeps_what_is_under_the_cursor(ratio: float):
    made = geometry(QSize(400, 300), QSize(1000, 1000), ratio)
    cursor = QPointF(260, 120)
    made.zoom_to(2.0, QPointF(210, 140))
    held = made.picture_point(cursor)
    made.zoom_by(3, cursor)
    moved = made.picture_point(cursor) - held
    assert moved.manhattanLength() < 1e-6


def test_zoom_has_limits():
    made = geometry(QSize(400, 400), QSize(100, 100))
    made.zoom_by(100)
    assert made.scale == MAX_SCALE
    made.zoom_by(-1000)
    assert made.scale == pytest.approx(0.32)


def test_panning_stops_at_the_edges():
    made = geometry(QSize(400, 400), QSize(1000, 1000))
    made.zoom_to(1.0)
    assert made.can_pan
    made.pan(QPointF(10_000, 0))
    assert made.target().left() == 0
    made.pan(QPointF(-10_000, -10_000))
    assert made.target().right() == 400
    assert made.target().bottom() == 400


def test_pan_moves_the_picture_with_the_hand():
    made = geometry(QSize(400, 400), QSize(1000, 1000), ratio=2.0)
    made.zoom_to(2.0)
    before = made.target()
    made.pan(QPointF(30, -20))
    assert made.target().topLeft() - before.topLeft() == QPointF(30, -20)


def test_zooming_out_brings_the_picture_back_to_the_middle():
    made = geometry(QSize(400, 400), QSize(1000, 1000))
    made.zoom_to(4.0, QPointF(0, 0))
    made.zoom_to(0.2)
    assert made.target() == QRectF(100, 100, 200, 200)


def test_pixels_are_squares_only_when_zoomed_in():
    made = geometry(QSize(800, 800), QSize(100, 100))
    assert made.scale == 8.0
    assert not made.is_crisp
    made.zoom_to(3.0)
    assert made.is_crisp
    made.zoom_to(2.0)
    assert not made.is_crisp


def test_another_picture_of_the_same_size_keeps_zoom_and_place():
    made = geometry(QSize(400, 400), QSize(1000, 1000))
    made.zoom_to(2.0, QPointF(10, 10))
    before = made.target()
    made.set_picture(QSize(1000, 1000))
    assert made.target() == before
    made.set_picture(QSize(900, 1000))
    assert made.target() != before


def test_whole_device_pixels_so_that_nothing_blurs():
    made = geometry(QSize(401, 301), QSize(100, 100), ratio=1.5)
    made.zoom_to(1.0)
    for edge in (made.target().left() * 1.5, made.target().top() * 1.5):
        assert edge == pytest.approx(round(edge))


def test_nothing_is_divided_by_zero():
    made = geometry(QSize(0, 0), QSize(0, 0))
    made.fit()
    assert made.target().isValid()
