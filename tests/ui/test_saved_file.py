"""A file that follows a state: what cannot be written is said once."""

from collections.abc import Callable, Iterator

import pytest
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from app.ui.main_window import MainWindow
from app.ui.models.background import Background
from app.ui.models.saved_file import SavedFile
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts


class Disk:
    """Full until it is emptied."""

    def __init__(self) -> None:
        self.full = True
        self.written = 0

    def write(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.written += 1


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def background(qapp: QApplication) -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def file(background: Background, disk: Disk, told: list[str]) -> SavedFile:
    made = SavedFile(background, lambda: disk.write, sentence="Not kept ({reason}).")
    made.failed.connect(told.append)
    return made


def fail(file: SavedFile, qtbot: QtBot, caught: pytest.LogCaptureFixture) -> None:
    before = len(caught.records)
    file.touch()
    qtbot.waitUntil(lambda: len(caught.records) > before)


def test_failure_is_said_once_until_writing_succeeds(
    file: SavedFile,
    disk: Disk,
    told: list[str],
    qtbot: QtBot,
    caplog: pytest.LogCaptureFixture,
    expect_log: Callable[..., None],
):
    expect_log("state cannot be saved")
    for _ in range(2):
        fail(file, qtbot, caplog)
    assert told == ["Not kept (No space left on device)."]
    disk.full = False
    file.touch()
    file.flush()
    assert disk.written == 1
    disk.full = True
    fail(file, qtbot, caplog)
    assert len(told) == 2


def test_form_that_cannot_be_kept_is_told_in_the_status_line(
    ready: WindowParts, qtbot: QtBot, expect_log: Callable[..., None]
):
    expect_log("state cannot be saved")
    window: MainWindow = ready.window()
    qtbot.addWidget(window)
    (ready.home / "data").write_text("a file where a folder should be")
    with qtbot.waitSignal(ready.form.save_failed):
        ready.form.set_prompt("a ring")
    assert "cannot be kept for the next start" in window.statusBar().currentMessage()
    assert not child(window, QLabel, "window_message_text").isVisible()
