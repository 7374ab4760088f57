"""The picture: shown, zoomed, moved, dropped on."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QColor, QDragEnterEvent, QDropEvent, QImage, QWheelEvent
from PySide6.QtWidgets import QApplication

from app.ui import theme
from app.ui.images import Picture, image_of_preview
from app.ui.widgets.image_view import ImageView
from tests.ui.run_events import preview, write_png


def picture(width: int = 100, height: int = 100, colour: str = "#c80a14") -> Picture:
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    return Picture(levels=(image,))


@pytest.fixture
def view(qtbot) -> ImageView:
    made = ImageView()
    qtbot.addWidget(made)
    made.resize(400, 300)
    made.clear("Nothing here", "Make something")
    made.show()
    return made


def colour_at(view: ImageView, x: int, y: int) -> str:
    return view.grab().toImage().pixelColor(x, y).name()


def wheel(view: ImageView, at: QPointF, notches: int) -> None:
    event = QWheelEvent(
        at,
        view.mapToGlobal(at),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(view, event)


def test_empty_view_paints_a_hint_and_ignores_zoom(view):
    assert view.is_empty
    image = view.grab().toImage()
    colours = {image.pixelColor(x, y).name() for x in range(100, 300) for y in range(100, 250)}
    assert len(colours) > 10
    view.zoom_by(3)
    assert view.fits


def test_picture_is_fitted_on_the_matte(view):
    view.show_picture(picture())
    assert colour_at(view, 200, 150) == "#c80a14"
    assert colour_at(view, 20, 150) == theme.colours().window
    assert view.fits
    assert view.scale == 3.0


def test_preview_covers_the_picture_until_it_ends(view):
    view.show_picture(picture(colour="#102030"))
    view.show_preview(image_of_preview(preview((200, 10, 20))), QSize(100, 100))
    assert view.shows_preview
    assert colour_at(view, 200, 150) == "#c80a14"
    view.end_preview()
    assert colour_at(view, 200, 150) == "#102030"


def test_preview_has_the_place_of_the_picture_to_come(view):
    view.show_preview(image_of_preview(preview((200, 10, 20))), QSize(100, 200))
    assert colour_at(view, 200, 150) == "#c80a14"
    assert colour_at(view, 100, 150) == theme.colours().window
    view.show_picture(picture(100, 200))
    assert not view.shows_preview


def test_broken_preview_changes_nothing(view):
    view.show_preview(QImage(), QSize(100, 100))
    assert view.is_empty


@pytest.mark.parametrize(
    ("key", "scale"),
    [
        (Qt.Key.Key_1, 1.0),
        (Qt.Key.Key_Plus, 3.75),
        (Qt.Key.Key_Equal, 3.75),
        (Qt.Key.Key_Minus, 2.4),
    ],
)
def test_keys_zoom(view, qtbot, key, scale: float):
    view.show_picture(picture())
    qtbot.keyClick(view, key)
    assert view.scale == pytest.approx(scale)
    qtbot.keyClick(view, Qt.Key.Key_0)
    assert view.fits


def test_zoom_is_told(view, qtbot):
    told: list[object] = []
    view.zoom_changed.connect(told.append)
    view.show_picture(picture())
    view.show_actual_size()
    view.clear("", "")
    assert told == [3.0, 1.0, None]


def test_double_click_toggles_between_fit_and_actual_size(view, qtbot):
    view.show_picture(picture(1000, 1000))
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=QPoint(200, 150))
    assert (view.fits, view.scale) == (False, 1.0)
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=QPoint(200, 150))
    assert view.fits


def test_wheel_zooms_at_the_cursor(view):
    view.show_picture(picture(1000, 1000))
    view.show_actual_size()
    cursor = QPointF(300, 100)
    held = view.picture_point(cursor)
    wheel(view, cursor, 2)
    assert view.scale == pytest.approx(1.25**2)
    assert (view.picture_point(cursor) - held).manhattanLength() < 1e-6
    wheel(view, cursor, -1)
    assert view.scale == pytest.approx(1.25)


def drag(qtbot, view: ImageView, start: QPoint, end: QPoint) -> None:
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view, pos=(start + end) / 2)
    qtbot.mouseMove(view, pos=end)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)


def test_dragging_a_picture_larger_than_the_view_moves_it(view, qtbot):
    view.show_picture(picture(1000, 1000))
    view.show_actual_size()
    before = view.picture_point(QPointF(0, 0))
    assert view.cursor().shape() == Qt.CursorShape.OpenHandCursor
    drag(qtbot, view, QPoint(200, 150), QPoint(150, 130))
    moved = view.picture_point(QPointF(0, 0)) - before
    assert moved == QPointF(50, 20)


def test_dragging_a_fitted_picture_pulls_it_out(view, qtbot):
    view.show_picture(picture())
    with qtbot.waitSignal(view.drag_wanted):
        drag(qtbot, view, QPoint(200, 150), QPoint(100, 100))


def test_previews_cannot_be_pulled_out(view, qtbot):
    view.show_preview(image_of_preview(preview()), QSize(100, 100))
    with qtbot.assertNotEmitted(view.drag_wanted):
        drag(qtbot, view, QPoint(200, 150), QPoint(100, 100))


def test_arrows_move_a_picture_larger_than_the_view(view, qtbot):
    view.show_picture(picture(1000, 1000))
    view.show_actual_size()
    before = view.picture_point(QPointF(0, 0))
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.picture_point(QPointF(0, 0)).x() == before.x() + 48


def drop_event(kind, paths: list[Path]):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = kind(
        QPoint(100, 100) if kind is QDragEnterEvent else QPointF(100, 100),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    return event, data


def test_dropped_file_is_told_once_and_the_frame_goes(view, qtbot, tmp_path):
    path = write_png(tmp_path / "a.png")
    entered, data = drop_event(QDragEnterEvent, [path])
    QApplication.sendEvent(view, entered)
    assert entered.isAccepted()
    assert colour_at(view, 1, 150) == theme.colours().accent
    dropped, data2 = drop_event(QDropEvent, [path])
    with qtbot.waitSignal(view.file_dropped) as blocker:
        QApplication.sendEvent(view, dropped)
    assert blocker.args == [path]
    assert colour_at(view, 1, 150) != theme.colours().accent
    del data, data2


def test_folders_are_left_to_what_is_around(view, tmp_path):
    entered, data = drop_event(QDragEnterEvent, [tmp_path])
    entered.ignore()
    QApplication.sendEvent(view, entered)
    assert not entered.isAccepted()
    del data


def test_resized_view_keeps_fitting(view):
    view.show_picture(picture())
    view.resize(200, 200)
    assert view.scale == 2.0


def test_middle_button_does_not_pull_a_fitted_picture_out(view, qtbot):
    view.show_picture(picture())
    with qtbot.assertNotEmitted(view.drag_wanted):
        qtbot.mousePress(view, Qt.MouseButton.MiddleButton, pos=QPoint(200, 150))
        qtbot.mouseMove(view, pos=QPoint(100, 100))
        qtbot.mouseRelease(view, Qt.MouseButton.MiddleButton, pos=QPoint(100, 100))


def test_keyboard_focus_is_seen_and_a_click_s_is_not(view, qtbot):
    with qtbot.waitActive(view):
        view.activateWindow()
    view.clearFocus()
    view.setFocus(Qt.FocusReason.TabFocusReason)
    assert colour_at(view, 1, 150) == theme.colours().accent
    view.clearFocus()
    view.setFocus(Qt.FocusReason.MouseFocusReason)
    assert colour_at(view, 1, 150) != theme.colours().accent
