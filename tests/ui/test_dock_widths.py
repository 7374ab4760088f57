"""The sides of the window: they grow with it until the user pulls them."""

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QApplication, QDockWidget
from pytestqt.qtbot import QtBot

from app.ui.main_window import MainWindow
from app.ui.panels.dock_widths import SAME_PX, form_width_px, side_width_px
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

SMALL, LARGE = QSize(1280, 800), QSize(2560, 1440)


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot) -> MainWindow:
    made = ready.window()
    qtbot.addWidget(made)
    made.resize(SMALL)
    with qtbot.waitExposed(made):
        made.show()
    return made


def widths(window: MainWindow) -> tuple[int, int]:
    QApplication.processEvents()
    form, memory = (child(window, QDockWidget, f"{name}_dock") for name in ("form", "memory"))
    return form.width(), memory.width()


def resize(window: MainWindow, size: QSize) -> tuple[int, int]:
    window.resize(size)
    return widths(window)


def as_wanted(found: tuple[int, int], window_px: int) -> bool:
    wanted = form_width_px(window_px), side_width_px(window_px)
    return all(abs(one - other) <= SAME_PX for one, other in zip(found, wanted, strict=True))


def test_a_small_window_has_narrow_sides_and_a_large_one_wider_ones(window: MainWindow):
    assert widths(window) == pytest.approx((340, 340), abs=SAME_PX)
    form, side = resize(window, LARGE)
    assert as_wanted((form, side), 2560)
    assert form > 400
    assert side > 600


def test_sides_shrink_again_with_the_window(window: MainWindow):
    resize(window, LARGE)
    assert as_wanted(resize(window, SMALL), 1280)


def test_growing_in_many_small_steps_comes_to_the_same(window: MainWindow):
    for width_px in range(1280, 2561, 80):
        resize(window, QSize(width_px, 900))
    assert as_wanted(widths(window), 2560)


def test_what_the_user_has_pulled_stays_as_it_is(window: MainWindow):
    memory = child(window, QDockWidget, "memory_dock")
    window.resizeDocks([memory], [420], Qt.Orientation.Horizontal)
    assert widths(window)[1] == pytest.approx(420, abs=2)
    form, side = resize(window, LARGE)
    assert side == pytest.approx(420, abs=2)
    assert form == pytest.approx(form_width_px(2560), abs=SAME_PX)


def test_a_side_that_is_closed_leaves_the_other_alone(window: MainWindow):
    for name in ("memory_dock", "queue_dock"):
        child(window, QDockWidget, name).close()
    form, _ = resize(window, LARGE)
    assert form == pytest.approx(form_width_px(2560), abs=SAME_PX)


def test_the_arrangement_of_a_new_window_comes_back(window: MainWindow):
    memory = child(window, QDockWidget, "memory_dock")
    resize(window, LARGE)
    window.resizeDocks([memory], [420], Qt.Orientation.Horizontal)
    window._reset_layout()
    widths(window)
    assert as_wanted(resize(window, LARGE), 2560), "they follow the window again"
