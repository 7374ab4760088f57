"""The left side of the window as a whole: scrolling it changes nothing, the focus can be seen."""

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QScrollArea,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.ui import theme
from app.ui.main_window import MainWindow
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

RING_PX = 2


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot) -> MainWindow:
    made = ready.window()
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    made.activateWindow()
    for name in ("memory_settings_head", "memory_more_head"):
        child(made, QAbstractButton, name).setChecked(True)
    return made


def turn_wheel(target: QWidget) -> QWheelEvent:
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(target.mapToGlobal(QPoint(5, 5))),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(target, event)
    return event


def test_the_wheel_over_any_value_scrolls_the_form_and_changes_none(window: MainWindow):
    form = child(window, QWidget, "form")
    values = [
        one
        for one in form.findChildren(QWidget)
        if isinstance(one, QComboBox | QAbstractSpinBox | QAbstractSlider) and one.isVisible()
    ]
    assert len(values) >= 9
    for one in values:
        one.clearFocus()
        # Such as a list of one model: as if there were more.
        if isinstance(one, QComboBox) and one.count() > 1:
            one.setCurrentIndex(0)
        shown = one.property("currentIndex"), one.property("value")
        before = one.grab().toImage()
        event = turn_wheel(one)
        assert (one.property("currentIndex"), one.property("value")) == shown, one.objectName()
        assert one.grab().toImage() == before, one.objectName()
        # What nobody takes goes on to the scroll area around it.
        assert not event.isAccepted() or not isinstance(one, QComboBox), one.objectName()


def shown(widget: QWidget) -> QImage:
    """As it looks in its window, where what lies around it may cut it off."""
    child(widget.window(), QScrollArea, "form_scroll").ensureWidgetVisible(widget)
    top_left = widget.mapTo(widget.window(), QPoint(0, 0))
    return widget.window().grab(widget.rect().translated(top_left)).toImage()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_focus_is_seen_on_what_has_the_accent_already(
    window: MainWindow, qapp: QApplication, scheme: theme.ThemeName
):
    theme.apply(qapp, scheme)
    lock = child(window, QAbstractButton, "seed_lock")
    lock.setChecked(True)
    for name in ("generate_button", "seed_lock", "ratio_1_1", "headroom_slider"):
        widget = child(window, QWidget, name)
        child(window, QWidget, "steps_spin").setFocus()
        without = shown(widget)
        widget.setFocus(Qt.FocusReason.TabFocusReason)
        assert widget.hasFocus()
        ring = shown(widget)
        changed = sum(
            without.pixelColor(x, y) != ring.pixelColor(x, y)
            for x in range(ring.width())
            for y in range(ring.height())
        )
        assert changed > RING_PX * 14, name
    theme.apply(qapp, "system")


def test_a_heading_shows_its_whole_focus_ring(window: MainWindow):
    for name in ("memory_settings_head", "memory_more_head"):
        head = child(window, QAbstractButton, name)
        parent = head.parentWidget()
        assert parent is not None
        assert parent.rect().contains(head.geometry())
        head.setFocus(Qt.FocusReason.TabFocusReason)
        image = shown(head)
        middle = image.height() // 2
        accent = theme.colours().accent
        assert image.pixelColor(0, middle).name() == accent
        assert image.pixelColor(image.width() - 1, middle).name() == accent


def test_title_buttons_of_the_sides_have_names_of_their_own(window: MainWindow):
    names = [
        child(window, QAbstractButton, f"{dock}_{what}").accessibleName()
        for dock in ("memory_dock", "queue_dock")
        for what in ("float", "close")
    ]
    assert len(set(names)) == len(names)
    assert "Close Memory" in names
