"""Long words in sentences: broken on the screen, whole everywhere else."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.ui.main_window import MainWindow
from app.ui.widgets.wrapping_label import BREAK, LONGEST_WORD, WrappingLabel, breakable
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

WINDOWS_PATH = r"C:\Users\Somebody\Documents\StableDiffusion\models\flux2_klein_4b_bf16"


def longest_piece(text: str) -> int:
    return max(len(piece) for word in text.split() for piece in word.split(BREAK))


@pytest.mark.parametrize(
    "text",
    [WINDOWS_PATH, "x" * 100, "/home/" + "long_name-" * 9, f"The model in {WINDOWS_PATH} is."],
)
def test_long_words_may_be_broken_and_are_the_same_without_the_breaks(text: str):
    broken = breakable(text)
    assert longest_piece(broken) <= LONGEST_WORD
    assert broken.replace(BREAK, "") == text


def test_sentences_stay_as_they_are():
    sentence = "The prompt has 774 tokens and the model reads 512: shorten it."
    assert breakable(sentence) == sentence
    assert breakable("") == ""


def test_a_path_is_broken_at_its_joints():
    assert breakable(WINDOWS_PATH).startswith(f"C:\\{BREAK}Users\\{BREAK}Somebody\\{BREAK}")


def test_a_long_word_does_not_make_a_label_wide_and_is_copied_whole(qtbot: QtBot):
    plain, label = QLabel(WINDOWS_PATH), WrappingLabel()
    plain.setWordWrap(True)
    label.setText(WINDOWS_PATH)
    for one in (plain, label):
        qtbot.addWidget(one)
        one.show()
    assert label.minimumSizeHint().width() < plain.minimumSizeHint().width() / 2
    assert label.text() == WINDOWS_PATH
    assert label.accessibleName() == WINDOWS_PATH
    label.setSelection(0, len(breakable(WINDOWS_PATH)))
    qtbot.keyClick(label, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == WINDOWS_PATH
    QGuiApplication.clipboard().clear()


def test_no_message_makes_the_window_wider(ready: WindowParts, qtbot: QtBot):
    window: MainWindow = ready.window()
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    before = window.minimumSizeHint().width()
    word = "Supercalifragilistic" * 20
    window.show_notice(f"There is no {word}.")
    ready.catalog.folder_refused.emit(f"The model in {WINDOWS_PATH}\\{word} is none.")
    for name in ("window_message_text", "model_message"):
        assert word in child(window, QLabel, name).text()
        assert child(window, QLabel, name).isVisible()
    assert window.minimumSizeHint().width() == before
