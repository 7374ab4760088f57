"""A window on a small screen: nothing is cut off, and nothing makes it wider than it is."""

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QGuiApplication, QScreen
from PySide6.QtWidgets import QDockWidget, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.core.events import PhaseStarted
from app.core.jobs import JobState, Phase
from app.ui.main_window import MainWindow
from app.ui.models.monitor_model import MonitorModel
from app.ui.panels.memory_panel import MemoryPanel
from app.ui.widgets.narrowing_row import NarrowingRow
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts
from tests.ui.run_events import job, queue, step

TWICE_AS_LARGE = QSize(960, 540)
"""What 1920 x 1080 pixels are when everything is drawn twice as large."""
FRAME_PX = 40


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> MainWindow:
    monkeypatch.setattr(QScreen, "availableSize", lambda _screen: TWICE_AS_LARGE)
    made = ready.window()

    def forget_jobs(_window: QWidget) -> None:
        ready.engine.on_event(queue())

    qtbot.addWidget(made, before_close_func=forget_jobs)
    made.set_memory_panel(MemoryPanel(MonitorModel(parent=made)))
    made.show()
    qtbot.waitExposed(made)
    return made


def test_the_window_fits_on_a_small_screen(window: MainWindow):
    assert QGuiApplication.primaryScreen().availableSize() == TWICE_AS_LARGE
    assert window.minimumSizeHint().width() <= TWICE_AS_LARGE.width()
    assert window.minimumSizeHint().height() <= TWICE_AS_LARGE.height() - FRAME_PX
    assert window.width() <= TWICE_AS_LARGE.width()
    # One behind the other: each has the whole height.
    memory, jobs = (child(window, QDockWidget, name) for name in ("memory_dock", "queue_dock"))
    assert window.tabifiedDockWidgets(memory) == [jobs]


def test_a_run_does_not_make_a_narrow_window_wider(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    narrow = window.minimumSizeHint()
    window.resize(narrow)
    ready.engine.on_event(queue(job("a", JobState.RUNNING)))
    ready.engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    ready.engine.on_event(step(4))
    row = child(window, NarrowingRow, "progress_words")
    qtbot.waitUntil(lambda: child(window, QLabel, "progress_phase").text() != "")
    assert window.width() == narrow.width()
    assert row.minimumSizeHint().width() <= row.width()
    shown = [label for label in row.findChildren(QLabel) if label.isVisible() and label.text()]
    assert len(shown) >= 2
    for label in shown:
        qtbot.waitUntil(lambda label=label: label.width() >= label.sizeHint().width())


def test_what_can_be_spared_goes_one_by_one_and_comes_back(qtbot: QtBot):
    around = QWidget()
    qtbot.addWidget(around)
    row = NarrowingRow("row", around, spacing_px=4)
    kept, second, first = (QLabel(text * 8) for text in "abc")
    row.add(kept, second)
    row.add_stretch()
    row.add(first)
    row.set_spare((first, second))
    whole = row.sizeHint()
    row.resize(whole)
    around.show()
    assert first.isVisible()
    assert second.isVisible()
    row.resize(whole - QSize(1, 0))
    assert not first.isVisible()
    assert second.isVisible()
    row.resize(row.minimumSizeHint())
    assert kept.isVisible()
    assert not second.isVisible()
    # A shorter text makes room again.
    row.resize(whole)
    second.setText("")
    row.refresh()
    assert first.isVisible()
    assert not second.isVisible()
