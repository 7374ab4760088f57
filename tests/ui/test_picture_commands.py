"""The commands on a picture: each does what it says, by button, key or drag."""

from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDrag, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QWidget

from app.core.policy import MemoryPolicy
from app.core.request import GenerationRequest
from app.ui.models import results_model
from app.ui.models.picture_memory import PictureMemory
from app.ui.panels import result_commands
from app.ui.panels.picture_panel import PicturePanel
from app.ui.widgets.save_picture_dialog import SavePictureDialog, save_dialog, with_png_suffix
from tests.ui.picture_studio import PictureStudio, centre_colour, message, strip, view


@pytest.fixture
def studio(qtbot, tmp_path):
    made = PictureStudio(qtbot, tmp_path)
    yield made
    made.close()


@pytest.fixture
def panel(studio: PictureStudio) -> PicturePanel:
    return studio.panel


def test_copy_puts_the_picture_on_the_clipboard(panel, studio, qtbot):
    studio.run()
    studio.click("button_copy_image")
    image = QGuiApplication.clipboard().image()
    assert image.size() == QSize(128, 128)
    assert image.pixelColor(3, 3).name() == "#c80a14"


def test_copy_key_works_in_the_panel(panel, studio, qtbot):
    studio.run()
    QGuiApplication.clipboard().clear()
    with qtbot.waitActive(panel):
        panel.activateWindow()
    view(panel).setFocus()
    qtbot.keyClick(view(panel), Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert not QGuiApplication.clipboard().image().isNull()


@pytest.mark.parametrize(
    ("command", "key", "modifiers"),
    [
        ("zoom_in", Qt.Key.Key_Plus, Qt.KeyboardModifier.ControlModifier),
        ("zoom_out", Qt.Key.Key_Minus, Qt.KeyboardModifier.ControlModifier),
        (
            "save_as",
            Qt.Key.Key_S,
            Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier,
        ),
        ("trash", Qt.Key.Key_Delete, Qt.KeyboardModifier.NoModifier),
    ],
)
def test_keys_of_commands(panel, studio, qtbot, monkeypatch, command, key, modifiers):
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: None)
    monkeypatch.setattr(results_model, "move_to_trash", lambda path: None)
    studio.run()
    with qtbot.waitActive(panel):
        panel.activateWindow()
    view(panel).setFocus()
    with qtbot.waitSignal(getattr(panel.commands, command).triggered):
        qtbot.keyClick(view(panel), key, modifiers)


def test_copy_prompt(panel, studio):
    studio.run()
    panel.commands.copy_prompt.trigger()
    assert QGuiApplication.clipboard().text() == "a ring"


def test_use_settings_gives_the_request_of_exactly_this_picture(panel, studio, qtbot):
    studio.start()
    studio.image(index=0)
    with qtbot.waitSignal(studio.results.picture_loaded):
        studio.image(index=1)
    studio.finish()
    with qtbot.waitSignal(panel.use_settings) as blocker:
        studio.click("button_use_settings")
    request, memory = blocker.args
    assert request == GenerationRequest(prompt="a ring", seed=101, images=1)
    assert memory == PictureMemory.of_run(MemoryPolicy(), None)


def test_save_as_writes_where_the_user_says(panel, studio, qtbot, tmp_path, monkeypatch):
    path = studio.run()
    asked: list[Path] = []

    def ask(parent: QWidget, suggestion: Path) -> Path:
        asked.append(suggestion)
        return tmp_path / "mine.png"

    monkeypatch.setattr(SavePictureDialog, "ask", ask)
    with qtbot.waitSignal(studio.results.copied):
        studio.click("button_save_as")
    assert asked == [path]
    assert (tmp_path / "mine.png").read_bytes() == path.read_bytes()


def test_save_as_can_be_thought_better_of(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run()
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: None)
    studio.click("button_save_as")
    assert set(tmp_path.iterdir()) == before


def test_unsaved_picture_says_so_and_is_rescued(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run(saved=False)
    unsaved = message(panel, "picture_unsaved")
    assert unsaved.isVisible()
    assert unsaved.text == "The disk is full."
    assert not panel.commands.show_in_folder.isEnabled()
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: tmp_path / "new.png")
    with qtbot.waitSignals([studio.results.copied, studio.results.picture_loaded]):
        studio.click("picture_unsaved_save_as")
    assert (tmp_path / "new.png").exists()
    assert not unsaved.isVisible()
    assert panel.commands.show_in_folder.isEnabled()


def test_failed_save_is_told(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run()
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: tmp_path)
    with qtbot.waitSignal(studio.results.failed):
        studio.click("button_save_as")
    assert message(panel).kind == "problem"
    assert "is a folder" in message(panel).text


def test_show_in_folder(panel, studio, qtbot, monkeypatch):
    path = studio.run()
    shown: list[Path] = []

    def show(one: Path) -> bool:
        shown.append(one)
        return len(shown) == 1

    monkeypatch.setattr(result_commands, "show_in_folder", show)
    studio.click("button_show_in_folder")
    assert shown == [path]
    assert not message(panel).isVisible()
    studio.click("button_show_in_folder")
    assert str(path) in message(panel).text


def test_trash_and_undo(panel, studio, qtbot, tmp_path, monkeypatch):
    (tmp_path / "trash").mkdir()
    monkeypatch.setattr(
        results_model, "move_to_trash", lambda path: path.rename(tmp_path / "trash" / path.name)
    )
    path = studio.run("a", colour="#102030")
    newer = studio.run("b")
    with qtbot.waitSignal(studio.results.picture_loaded):
        studio.click("button_trash")
    assert not newer.exists()
    assert centre_colour(panel) == "#102030"
    studio.click("button_trash")
    assert not path.exists()
    assert view(panel).is_empty
    assert message(panel).text == "a0.png is in the trash."
    with qtbot.waitSignal(studio.results.picture_loaded):
        studio.click("picture_message_undo_trash")
    assert path.exists()
    assert centre_colour(panel) == "#102030"
    assert not message(panel).isVisible()


def test_picture_whose_file_is_gone_is_said_so(panel, studio, qtbot):
    path = studio.run("a")
    studio.run("b")
    path.unlink()
    with qtbot.waitSignal(studio.results.picture_loaded):
        strip(panel).set_current_row(1)
    assert view(panel).is_empty


def test_context_menus_offer_the_commands(panel):
    for widget in (view(panel), strip(panel)):
        assert widget.contextMenuPolicy() == Qt.ContextMenuPolicy.ActionsContextMenu
        assert widget.actions() == list(panel.commands.on_picture)


def test_picture_is_pulled_out_as_its_file(panel, studio, monkeypatch):
    path = studio.run()
    dragged: list[list[QUrl]] = []

    def run_drag(drag: QDrag) -> None:
        dragged.append(drag.mimeData().urls())

    monkeypatch.setattr(result_commands, "run_drag", run_drag)
    view(panel).drag_wanted.emit()
    assert dragged == [[QUrl.fromLocalFile(str(path))]]


@pytest.mark.parametrize(
    ("given", "path"),
    [("a.png", "a.png"), ("a.PNG", "a.PNG"), ("a", "a.png"), ("a.jpg", "a.jpg.png")],
)
def test_saved_pictures_are_png(given: str, path: str):
    assert with_png_suffix(Path(given)) == Path(path)


def test_save_dialog_adds_the_suffix_before_it_asks_about_replacing(panel, qtbot, tmp_path):
    dialog = save_dialog(panel, tmp_path / "made.png")
    qtbot.addWidget(dialog)
    assert dialog.acceptMode() == QFileDialog.AcceptMode.AcceptSave
    assert dialog.defaultSuffix() == "png"
    assert not dialog.testOption(QFileDialog.Option.DontConfirmOverwrite)
    assert dialog.selectedFiles() == [str(tmp_path / "made.png")]


def test_name_that_only_the_suffix_makes_another_file_s_is_asked_about(
    panel, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.jpg.png").write_text("precious")
    answers = [tmp_path / "a.jpg", tmp_path / "a.jpg.png"]
    suggested: list[Path] = []

    def choose(parent: QWidget, suggestion: Path) -> Path:
        suggested.append(suggestion)
        return answers.pop(0)

    monkeypatch.setattr(SavePictureDialog, "choose", choose)
    assert SavePictureDialog.ask(panel, tmp_path / "x.png") == tmp_path / "a.jpg.png"
    # The second time the dialog was shown the name in full, so it has asked.
    assert suggested == [tmp_path / "x.png", tmp_path / "a.jpg.png"]


def test_new_name_gets_the_suffix_without_a_further_question(
    panel, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        SavePictureDialog, "choose", lambda _parent, _suggestion: tmp_path / "new.jpg"
    )
    assert SavePictureDialog.ask(panel, tmp_path / "x.png") == tmp_path / "new.jpg.png"
