"""One window per user: a second start hands over its files, from a process of its own."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtNetwork import QLocalSocket
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.ui.models.single_instance import SingleInstance, server_name

SECOND_START = """
import sys
from PySide6.QtCore import QCoreApplication
from app.ui.models.single_instance import SingleInstance
app = QCoreApplication([])
sys.exit(0 if SingleInstance(sys.argv[1]).hand_over(sys.argv[2:]) else 3)
"""


@pytest.fixture
def name() -> str:
    return f"headroom-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def first(qapp: QApplication, name: str) -> Iterator[SingleInstance]:
    made = SingleInstance(name)
    assert made.listen()
    yield made
    made.close()


def test_nobody_there_is_told_at_once(qapp: QApplication, name: str):
    assert not SingleInstance(name).hand_over(["a.png"])


def test_second_start_hands_over_its_files(first: SingleInstance, name: str, qtbot: QtBot):
    with qtbot.waitSignal(first.opened, timeout=20_000) as opened:
        second = subprocess.Popen([sys.executable, "-c", SECOND_START, name, "a.png", "ü 赤.png"])
    assert opened.args == [("a.png", "ü 赤.png")]
    qtbot.waitUntil(lambda: second.poll() is not None, timeout=20_000)
    assert second.returncode == 0


def test_message_that_makes_no_sense_is_dropped(
    first: SingleInstance, name: str, qtbot: QtBot, expect_log
):
    expect_log("could not be understood")
    socket = QLocalSocket()
    socket.connectToServer(name)
    assert socket.waitForConnected(2000)
    with qtbot.waitSignal(socket.disconnected), qtbot.assertNotEmitted(first.opened):
        socket.write(b"{not json\n")
        socket.flush()
    socket.abort()


def test_endless_message_is_cut_off(first: SingleInstance, name: str, qtbot: QtBot):
    socket = QLocalSocket()
    socket.connectToServer(name)
    assert socket.waitForConnected(2000)
    with qtbot.waitSignal(socket.disconnected), qtbot.assertNotEmitted(first.opened):
        socket.write(b"x" * (2 << 20))
        socket.flush()
    socket.abort()


def test_closing_twice_is_fine_and_frees_the_name(name: str, qapp: QApplication):
    one = SingleInstance(name)
    assert one.listen()
    one.close()
    one.close()
    other = SingleInstance(name)
    assert other.listen()
    other.close()


def test_name_depends_on_the_data_folder_alone(tmp_path: Path):
    assert server_name(tmp_path) == server_name(tmp_path)
    assert server_name(tmp_path) != server_name(tmp_path / "other")
