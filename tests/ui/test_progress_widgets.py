"""Bar, row and message bar: what they are told is what they show."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QLabel, QToolButton

from app.core.events import Loading
from app.core.jobs import Phase
from app.core.streaming import Streaming
from app.core.units import GIB
from app.ui import theme
from app.ui.models.run_progress import RunProgress
from app.ui.widgets.message_bar import MessageBar
from app.ui.widgets.progress_bar import ProgressBar
from app.ui.widgets.progress_row import ProgressRow
from tests.ui.find import find
from tests.ui.run_events import job

DENOISING = RunProgress(
    job=job(),
    phase=Phase.DENOISE,
    note="",
    step=2,
    steps=8,
    seconds_per_step=0.5,
    remaining_s=3.0,
    elapsed_s=4.0,
    cancelling=False,
)


@pytest.fixture
def bar(qtbot) -> ProgressBar:
    made = ProgressBar("bar")
    qtbot.addWidget(made)
    made.resize(200, 6)
    made.show()
    return made


@pytest.fixture
def row(qtbot) -> ProgressRow:
    made = ProgressRow()
    qtbot.addWidget(made)
    made.resize(600, 60)
    made.show()
    return made


@pytest.fixture
def message(qtbot) -> MessageBar:
    made = MessageBar("message")
    qtbot.addWidget(made)
    return made


def text(widget, name: str) -> str:
    return find(widget, QLabel, name).text()


def test_bar_is_filled_as_far_as_it_says(bar):
    bar.set_fraction(0.5)
    image = bar.grab().toImage()
    assert image.pixelColor(50, 3).name() == theme.colours().accent
    assert image.pixelColor(150, 3).name() == theme.colours().border
    assert bar.value() == 500


def test_busy_bar_moves_only_while_it_is_seen(bar, qtbot):
    bar.set_fraction(None)
    pictures = {bytes(bar.grab().toImage().constBits())}

    def moved() -> bool:
        pictures.add(bytes(bar.grab().toImage().constBits()))
        return len(pictures) > 1

    qtbot.waitUntil(moved)
    bar.hide()
    assert not bar._animation.isActive()
    bar.show()
    assert bar._animation.isActive()
    bar.set_fraction(1.0)
    assert not bar._animation.isActive()


def test_row_says_phase_step_speed_and_times(row):
    row.show_progress(DENOISING)
    assert text(row, "progress_phase") == "Drawing"
    assert text(row, "progress_step") == "Step 2 of 8"
    assert text(row, "progress_rate") == "2.0 it/s"
    assert text(row, "progress_remaining") == "about 3 s left"
    assert text(row, "progress_elapsed") == "4 s"
    assert find(row, ProgressBar, "progress_bar").fraction == 0.25


def test_row_says_what_streaming_achieves_while_it_does(row):
    streaming = Streaming(streamed_bytes=6 * GIB, copying_s=0.5, waited_s=0.25)
    row.show_progress(replace(DENOISING, streaming=streaming))
    assert text(row, "progress_streaming") == "12.0 GB/s, 50 % hidden"
    assert find(row, QLabel, "progress_streaming").isVisible()
    row.show_progress(DENOISING)
    assert not find(row, QLabel, "progress_streaming").isVisible()
    row.show_progress(replace(DENOISING, streaming=streaming))
    row.show_outcome("Done")
    assert not find(row, QLabel, "progress_streaming").isVisible()


def test_row_is_busy_while_nothing_can_be_counted(row):
    row.show_progress(replace(DENOISING, phase=Phase.LOAD))
    assert find(row, ProgressBar, "progress_bar").fraction is None
    row.show_outcome("Done")


def test_row_shows_the_bytes_of_a_model_that_is_read_and_can_be_cancelled(row, qtbot):
    reading = Loading(job_id="a", done_bytes=3 * GIB, total_bytes=4 * GIB)
    row.show_progress(
        replace(DENOISING, phase=Phase.LOAD, loading=reading, remaining_s=None, bytes_left_s=7.0)
    )
    assert text(row, "progress_step") == "3.0 of 4.0 GB"
    assert text(row, "progress_remaining") == "about 7 s of loading left"
    bar = find(row, ProgressBar, "progress_bar")
    assert (bar.fraction, bar.value()) == (0.75, 750)
    with qtbot.waitSignal(row.cancel_clicked):
        qtbot.mouseClick(find(row, QToolButton, "progress_cancel"), Qt.MouseButton.LeftButton)


def test_row_keeps_its_height_when_a_run_ends(row):
    row.show_progress(DENOISING)
    height = row.sizeHint().height()
    row.show_outcome("Done in 3.2 s")
    assert row.sizeHint().height() == height
    assert text(row, "progress_phase") == "Done in 3.2 s"
    assert text(row, "progress_step") == ""
    assert not find(row, QToolButton, "progress_cancel").isVisible()


def test_cancel_can_be_clicked_again_while_it_waits_for_the_step(row, qtbot):
    row.show_progress(DENOISING)
    button = find(row, QToolButton, "progress_cancel")
    before = button.toolTip()
    with qtbot.waitSignal(row.cancel_clicked):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    row.show_progress(replace(DENOISING, cancelling=True))
    assert text(row, "progress_phase") == "Cancelling"
    assert button.toolTip() != before
    with qtbot.waitSignal(row.cancel_clicked):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_message_shows_its_sentence_and_can_be_closed(message, qtbot):
    assert message.isHidden()
    message.show_message("The disk is full.", kind="problem")
    assert message.isVisible()
    assert text(message, "message_text") == "The disk is full."
    assert message.accessibleName() == "The disk is full."
    assert (message.kind, message.property("role")) == ("problem", "banner")
    qtbot.mouseClick(find(message, QToolButton, "message_close"), Qt.MouseButton.LeftButton)
    assert message.isHidden()


def test_message_buttons_do_what_they_say_and_go_with_the_message(message, qtbot):
    action = QAction("&Try again", message)
    action.setObjectName("action_retry")
    message.show_message("It failed.", actions=[action])
    button = find(message, QToolButton, "message_retry")
    assert button.accessibleName() == "Try again"
    with qtbot.waitSignal(action.triggered):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    message.show_message("Something else.")
    assert not button.isVisible()
