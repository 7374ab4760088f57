"""The prompt: undo, token count, buttons."""

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtWidgets import QLabel, QPlainTextEdit, QPushButton
from pytestqt.qtbot import QtBot

from app.ui.panels.prompt_panel import PromptEdit, PromptPanel
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts


@pytest.fixture
def panel(ready: WindowParts, qtbot: QtBot) -> PromptPanel:
    ready.form.prompt_changed.connect(ready.tokens.set_prompt)
    made = PromptPanel(ready.form, ready.tokens)
    qtbot.addWidget(made)
    made.show()
    return made


def test_typing_reaches_the_form(panel: PromptPanel, ready: WindowParts, qtbot: QtBot):
    qtbot.keyClicks(child(panel, PromptEdit, "prompt_edit"), "a ring")
    assert ready.form.form.prompt == "a ring"


def test_replaced_text_can_be_undone_and_redone(
    panel: PromptPanel, ready: WindowParts, qtbot: QtBot
):
    edit = child(panel, PromptEdit, "prompt_edit")
    qtbot.keyClicks(edit, "typed by hand")
    ready.form.set_prompt("from a picture, 赤い円")
    assert edit.toPlainText() == "from a picture, 赤い円"
    edit.undo()
    assert edit.toPlainText() == "typed by hand"
    assert ready.form.form.prompt == "typed by hand"
    edit.redo()
    assert ready.form.form.prompt == "from a picture, 赤い円"


def test_last_prompt_is_shown_and_is_no_undo_step(ready: WindowParts, qtbot: QtBot):
    ready.form.set_prompt("from last time")
    made = PromptPanel(ready.form, ready.tokens)
    qtbot.addWidget(made)
    edit = child(made, QPlainTextEdit, "prompt_edit")
    assert edit.toPlainText() == "from last time"
    assert not edit.document().isUndoAvailable()


def test_length_is_counted_in_tokens(panel: PromptPanel, ready: WindowParts, qtbot: QtBot):
    ready.tokens.set_folder(ready.models_root / "demo")
    label = child(panel, QLabel, "token_count")
    ready.form.set_prompt("a big red circle")
    qtbot.waitUntil(lambda: label.text() == "4 / 512 tokens")


def test_too_long_prompt_says_what_is_cut(panel: PromptPanel, ready: WindowParts, qtbot: QtBot):
    ready.tokenizers.limit = 3
    ready.tokens.set_folder(ready.models_root / "demo")
    message = child(panel, QLabel, "prompt_message")
    ready.form.set_prompt("one two three four five")
    qtbot.waitUntil(message.isVisible)
    assert message.text() == ("Too long by 2 tokens: the model will not read from “four five” on.")
    ready.form.set_prompt("one two three")
    qtbot.waitUntil(lambda: not message.isVisible())


def test_length_is_not_shown_when_the_tokenizer_is_broken(
    panel: PromptPanel, ready: WindowParts, qtbot: QtBot
):
    ready.tokenizers.fails = True
    with qtbot.waitSignal(ready.tokens.counted) as counted:
        ready.tokens.set_folder(ready.models_root / "demo")
    assert counted.args == [None]
    assert child(panel, QLabel, "token_count").text() == ""


def test_problem_is_shown_until_one_types(panel: PromptPanel, qtbot: QtBot):
    message = child(panel, QLabel, "prompt_message")
    panel.set_problem("The prompt is empty: type what you want to see.")
    assert message.isVisible()
    qtbot.keyClicks(child(panel, PromptEdit, "prompt_edit"), "x")
    assert not message.isVisible()


def test_buttons_say_what_is_wanted(panel: PromptPanel, qtbot: QtBot):
    cancel = child(panel, QPushButton, "cancel_button")
    assert not cancel.isEnabled()
    with qtbot.waitSignal(panel.generate_clicked):
        qtbot.mouseClick(child(panel, QPushButton, "generate_button"), Qt.MouseButton.LeftButton)
    panel.set_running(running=True)
    with qtbot.waitSignal(panel.cancel_clicked):
        qtbot.mouseClick(cancel, Qt.MouseButton.LeftButton)


def test_control_enter_adds_no_line(panel: PromptPanel, qtbot: QtBot):
    edit = child(panel, PromptEdit, "prompt_edit")
    qtbot.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert edit.toPlainText() == ""
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert edit.toPlainText() == "\n"


def test_dropped_files_are_left_to_the_window(panel: PromptPanel):
    edit = child(panel, PromptEdit, "prompt_edit")
    files, text = QMimeData(), QMimeData()
    files.setUrls([QUrl.fromLocalFile("/picture.png")])
    text.setText("a ring")
    assert not edit.canInsertFromMimeData(files)
    assert edit.canInsertFromMimeData(text)
