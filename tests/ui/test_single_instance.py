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

from app.ui.models import single_instance
from app.ui.models.single_instance import SingleInstance, Start, server_name

SECOND_START = """
import sys
from PySide6.QtCore import QCoreApplication
from app.ui.models.single_instance import SingleInstance
from pathlib import Path
app = QCoreApplication([])
second = SingleInstance(sys.argv[1], Path(sys.argv[2]))
print(second.claim_or_hand_over(sys.argv[3:]).name)
"""


@pytest.fixture
def name() -> str:
    return f"headroom-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "instance.lock"


@pytest.fixture
def first(qapp: QApplication, name: str, lock_file: Path) -> Iterator[SingleInstance]:
    made = SingleInstance(name, lock_file)
    assert made.claim()
    yield made
    made.close()


def test_one_that_listens_to_nobody_is_told(first: SingleInstance, name: str, lock_file: Path):
    first.stop_listening()
    second = SingleInstance(name, lock_file)
    assert second.claim_or_hand_over(["a.png"], patience_ms=0) is Start.NO_ANSWER


def test_one_that_hangs_is_told(
    first: SingleInstance, name: str, lock_file: Path, monkeypatch: pytest.MonkeyPatch
):
    # The event loop that would answer is this one, which is held up meanwhile.
    monkeypatch.setattr(single_instance, "TIMEOUT_MS", 50)
    assert SingleInstance(name, lock_file).claim_or_hand_over(["a.png"]) is Start.NO_ANSWER


def test_one_that_ends_is_waited_for_and_followed(
    first: SingleInstance, name: str, lock_file: Path, monkeypatch: pytest.MonkeyPatch
):
    first.stop_listening()
    waits: list[None] = []

    def pause() -> None:
        waits.append(None)
        if len(waits) == 3:
            first.close()

    monkeypatch.setattr(single_instance, "pause", pause)
    second = SingleInstance(name, lock_file)
    assert second.claim_or_hand_over(["a.png"]) is Start.FIRST
    assert len(waits) == 3
    second.close()


def test_one_that_ends_takes_no_more_files(first: SingleInstance, name: str, lock_file: Path):
    first.stop_listening()
    first.stop_listening()
    assert not SingleInstance(name, lock_file).claim()
    socket = QLocalSocket()
    socket.connectToServer(name)
    assert not socket.waitForConnected(200)


def test_claim_without_a_writable_folder_does_without(
    qapp: QApplication, name: str, tmp_path: Path, expect_log
):
    expect_log("no single instance")
    (tmp_path / "data").write_text("a file where a folder should be")
    assert SingleInstance(name, tmp_path / "data" / "instance.lock").claim()


def test_second_start_hands_over_its_files(
    first: SingleInstance, name: str, lock_file: Path, qtbot: QtBot
):
    with qtbot.waitSignal(first.opened, timeout=20_000) as opened:
        second = subprocess.Popen(
            [sys.executable, "-c", SECOND_START, name, str(lock_file), "a.png", "ü 赤.png"],
            stdout=subprocess.PIPE,
            text=True,
        )
    assert opened.args == [("a.png", "ü 赤.png")]
    assert second.communicate(timeout=20)[0] == "HANDED_OVER\n"


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


def test_closing_twice_is_fine_and_frees_the_name(name: str, lock_file: Path, qapp: QApplication):
    one, other = SingleInstance(name, lock_file), SingleInstance(name, lock_file)
    assert one.claim()
    assert not other.claim()
    one.close()
    one.close()
    assert other.claim()
    other.close()


def test_name_depends_on_the_data_folder_alone(tmp_path: Path):
    assert server_name(tmp_path) == server_name(tmp_path)
    assert server_name(tmp_path) != server_name(tmp_path / "other")
