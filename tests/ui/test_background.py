"""Work beside the window."""

import threading
from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.ui.models.background import Background


@pytest.fixture
def background(qapp: QApplication) -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


def unexpected(outcome: object) -> None:
    raise AssertionError(outcome)


def test_work_is_done_elsewhere_and_delivered_here(background: Background, qtbot: QtBot):
    here = threading.get_ident()
    worked: list[int] = []
    delivered: list[int] = []

    def work() -> str:
        worked.append(threading.get_ident())
        return "value"

    def done(value: str) -> None:
        assert value == "value"
        delivered.append(threading.get_ident())

    background.run(work, done, unexpected)
    qtbot.waitUntil(lambda: bool(delivered))
    assert delivered == [here]
    assert worked[0] != here


def test_failure_is_delivered_too(background: Background, qtbot: QtBot):
    failures: list[Exception] = []

    def work() -> None:
        raise OSError("no disk")

    background.run(work, unexpected, failures.append)
    qtbot.waitUntil(lambda: bool(failures))
    assert str(failures[0]) == "no disk"


def test_what_must_be_kept_is_done_though_all_closes_before_its_turn(
    background: Background, qapp: QApplication
):
    go_on = threading.Event()
    done: list[str] = []
    for _ in range(2):  # Takes all threads.
        background.run(lambda: go_on.wait(10), unexpected, unexpected)
    background.run(lambda: done.append("kept"), unexpected, unexpected, keep=True)
    background.run(lambda: done.append("dropped"), unexpected, unexpected)
    closing = threading.Thread(target=background.close)
    closing.start()
    go_on.set()
    closing.join()
    assert done[:1] == ["kept"]


def test_nothing_is_delivered_after_close(background: Background, qtbot: QtBot, qapp: QApplication):
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    background.run(work, unexpected, unexpected)
    assert begun.wait(10)
    go_on.set()
    background.close()
    background.run(lambda: None, unexpected, unexpected)
    qapp.processEvents()
