"""The window: what is wired to what, what closing asks, what is remembered."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QRect, QSize, Qt, QUrl
from PySide6.QtGui import (
    QAction,
    QDragEnterEvent,
    QDropEvent,
    QGuiApplication,
    QKeySequence,
    QScreen,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.core.errors import ErrorInfo
from app.core.events import JobFailed, JobFinished, QueueChanged
from app.core.jobs import Job, JobState
from app.core.metadata import ImageRecord, record_to_json
from app.core.request import GenerationRequest
from app.ui import theme
from app.ui.main_window import MainWindow
from app.ui.panels.about_dialog import AboutDialog
from app.ui.panels.close_dialog import CloseDialog
from app.ui.panels.log_view import LogView
from app.ui.panels.models_dialog import ModelsDialog
from app.ui.panels.prompt_panel import PromptEdit
from app.ui.panels.settings_dialog import SettingsDialog
from app.ui.panels.shortcuts_dialog import ShortcutsDialog
from app.ui.panels.text_dialog import TextDialog
from app.ui.panels.window_layout import DEFAULT_SIZE, first_size
from tests.fakes.engine import MEMORY
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

LEFT = Qt.MouseButton.LeftButton
CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot) -> MainWindow:
    made = ready.window()
    qtbot.addWidget(made, before_close_func=forget_jobs(ready))
    made.show()
    qtbot.waitExposed(made)
    made.activateWindow()
    return made


def forget_jobs(parts: WindowParts):
    """Nothing is asked when the test's window is closed."""

    def forget(_window: QWidget) -> None:
        parts.engine.on_event(QueueChanged(jobs=()))

    return forget


def action(window: MainWindow, name: str) -> QAction:
    return child(window, QAction, f"action_{name}")


def running_job() -> Job:
    return Job(
        id="job",
        request=GenerationRequest(prompt="a ring"),
        model_folder="/m",
        output=None,  # pyright: ignore[reportArgumentType]
        state=JobState.RUNNING,
    )


def run(parts: WindowParts) -> None:
    parts.engine.on_event(QueueChanged(jobs=(running_job(),)))


# Generate and cancel.


def test_generate_submits_the_form(window: MainWindow, ready: WindowParts, qtbot: QtBot):
    folder = str(ready.home / "elsewhere")
    ready.settings.update(pictures_folder=folder, name_template="{seed}", metadata=False)
    qtbot.keyClicks(child(window, PromptEdit, "prompt_edit"), "a ring")
    qtbot.mouseClick(child(window, QPushButton, "generate_button"), LEFT)
    [(job, front)] = ready.control.submitted
    assert not front
    assert job.request == ready.form.request()
    assert job.request.prompt == "a ring"
    assert job.model_folder == str(ready.models_root / "demo")
    assert (job.output.folder, job.output.name_template) == (folder, "{seed}")
    assert not job.output.metadata
    assert job.previews


def test_control_enter_generates_and_with_shift_as_the_next(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    edit = child(window, PromptEdit, "prompt_edit")
    qtbot.waitUntil(edit.hasFocus)
    qtbot.keyClicks(edit, "a ring")
    qtbot.keyClick(edit, Qt.Key.Key_Return, CONTROL)
    qtbot.keyClick(edit, Qt.Key.Key_Return, CONTROL | SHIFT)
    assert [front for _, front in ready.control.submitted] == [False, True]
    assert edit.toPlainText() == "a ring"


@pytest.mark.parametrize("name", ["steps_spin", "width_line"])
def test_control_enter_takes_over_the_number_being_typed(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, name: str
):
    ready.form.set_prompt("a ring")
    editor = child(window, QWidget, name)
    assert isinstance(editor, QLineEdit | QAbstractSpinBox)
    editor.setFocus()
    qtbot.waitUntil(editor.hasFocus)
    editor.selectAll()
    qtbot.keyClicks(editor, "96")
    qtbot.keyClick(editor, Qt.Key.Key_Return, CONTROL)
    [(job, _)] = ready.control.submitted
    assert 96 in (job.request.steps, job.request.width_px)


def test_held_keys_neither_queue_twice_nor_cancel_twice(window: MainWindow):
    for name in ("generate", "generate_next", "cancel", "trash"):
        assert not action(window, name).autoRepeat()


def test_pictures_folder_that_cannot_be_made_is_told(
    window: MainWindow, ready: WindowParts, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    ready.settings.update(pictures_folder=str(tmp_path / "file" / "pictures"))
    action(window, "open_folder").trigger()
    assert "cannot be made" in child(window, QLabel, "window_message_text").text()


def test_generate_is_refused_where_the_picture_could_not_be_saved(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    (tmp_path / "file").write_text("")
    ready.form.set_prompt("a ring")
    seed = ready.form.form.seed
    ready.settings.update(pictures_folder=str(tmp_path / "file" / "pictures"))
    qtbot.mouseClick(child(window, QPushButton, "generate_button"), LEFT)
    assert ready.control.submitted == []
    message = child(window, QLabel, "window_message_text").text()
    assert "cannot be saved" in message
    assert f"{tmp_path / 'file'} is a file" in message
    assert ready.form.form.seed == seed


def test_picture_given_before_the_models_are_known_is_used_then(
    parts: WindowParts, read_catalog: Callable[[WindowParts], None]
):
    parts.studio.use(GenerationRequest(prompt="theirs", model="dev"))
    read_catalog(parts)
    assert parts.form.form.model == "dev"


def test_each_generate_has_a_new_seed_and_shows_it(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    ready.form.set_prompt("a ring")
    for _ in range(2):
        qtbot.mouseClick(child(window, QPushButton, "generate_button"), LEFT)
    seeds = [job.request.seed for job, _ in ready.control.submitted]
    assert seeds[0] != seeds[1]
    assert child(window, QLineEdit, "seed_line").text() == str(seeds[1])


def test_empty_prompt_is_told_beside_the_prompt(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    qtbot.mouseClick(child(window, QPushButton, "generate_button"), LEFT)
    assert ready.control.submitted == []
    assert "prompt is empty" in child(window, QLabel, "prompt_message").text()


def test_model_that_is_gone_is_told_beside_the_chooser(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    ready.form.set_prompt("a ring")
    ready.form.set_model("/nowhere")
    qtbot.mouseClick(child(window, QPushButton, "generate_button"), LEFT)
    assert ready.control.submitted == []
    assert "/nowhere is not here any more" in child(window, QLabel, "model_message").text()


def test_escape_cancels_the_running_job(window: MainWindow, ready: WindowParts, qtbot: QtBot):
    cancel = action(window, "cancel")
    assert not cancel.isEnabled()
    run(ready)
    assert cancel.isEnabled()
    edit = child(window, PromptEdit, "prompt_edit")
    qtbot.waitUntil(edit.hasFocus)
    qtbot.keyClick(edit, Qt.Key.Key_Escape)
    assert ready.control.calls == [("cancel", "job")]


def test_use_settings_restores_the_form_and_can_be_undone(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    edit = child(window, PromptEdit, "prompt_edit")
    qtbot.keyClicks(edit, "mine")
    request = GenerationRequest(prompt="theirs", model="dev", seed=2**64 - 1, steps=3)
    ready.studio.use(request)
    assert ready.form.request() == request
    edit.undo()
    assert edit.toPlainText() == "mine"


def test_picture_finds_the_models_folder_by_its_name(ready: WindowParts):
    ready.studio.use(GenerationRequest(prompt="theirs", model="base"))
    assert ready.form.form.model == "klein-base-4b"


def test_settings_of_a_model_that_is_not_here_keep_the_chosen_one(
    window: MainWindow, ready: WindowParts
):
    ready.studio.use(GenerationRequest(prompt="theirs", model="klein-9b", seed=5))
    assert ready.form.form.model == "demo"
    assert ready.form.form.prompt == "theirs"
    message = child(window, QLabel, "window_message_text")
    assert message.isVisible()
    assert "klein-9b" in message.text()


def test_what_kept_a_picture_from_being_made_is_old_news_with_the_next(
    window: MainWindow, ready: WindowParts, tmp_path: Path, qtbot: QtBot
):
    (tmp_path / "file").write_text("x")
    ready.form.set_prompt("a ring")
    ready.settings.update(pictures_folder=str(tmp_path / "file"))
    with qtbot.waitSignal(ready.catalog.folder_refused):
        window.open_files((str(tmp_path),))
    ready.studio.generate()
    message = child(window, QLabel, "window_message_text")
    problem = child(window, QLabel, "model_message")
    assert message.isVisible()
    assert problem.isVisible()
    ready.settings.update(pictures_folder="")
    ready.studio.generate()
    assert not message.isVisible()
    assert not problem.isVisible()


# Keys.


def test_tab_comes_to_every_part_of_the_window_from_top_to_bottom_and_back(
    window: MainWindow, qtbot: QtBot
):
    for part in ("memory_settings_head", "memory_more_head"):
        child(window, QToolButton, part).click()
    with qtbot.waitActive(window):
        window.activateWindow()
    edit = child(window, PromptEdit, "prompt_edit")
    edit.setFocus()
    qtbot.waitUntil(edit.hasFocus)
    met: list[str] = []
    focused = QApplication.focusWidget()
    while focused is not None and focused.objectName() not in met:
        met.append(focused.objectName())
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
        focused = QApplication.focusWidget()
    assert focused is edit, f"{met} never comes back to the prompt"
    order = [
        "prompt_edit",
        "reference_add",
        "generate_button",
        "model_combo",
        "width_line",
        "steps_spin",
        "seed_line",
        "memory_settings_head",
        "headroom_slider",
        "memory_precision",
        "memory_strict",
        "memory_more_head",
        "memory_compile",
        "image_view",
        "queue_pause",
    ]
    assert [name for name in met if name in order] == order


# Errors, files, dialogs.


def test_error_shows_details_and_can_be_copied(window: MainWindow, qtbot: QtBot):
    window.show_error(ErrorInfo(code="x.y", message="It broke.", details="because"))
    assert child(window, QLabel, "window_message_text").text() == "It broke."
    action(window, "copy_message").trigger()
    assert QGuiApplication.clipboard().text() == "It broke. [x.y]\n\nbecause"
    action(window, "message_details").trigger()
    dialog = child(window, TextDialog, "text_dialog")
    assert dialog.isVisible()
    assert not dialog.isModal()
    dialog.close()


def test_failed_job_shows_its_details(window: MainWindow, ready: WindowParts):
    run(ready)
    error = ErrorInfo(code="engine.x", message="It broke.", traceback_text="Traceback …")
    ready.engine.on_event(JobFailed(job_id="job", error=error))
    action(window, "details").trigger()
    dialog = child(window, TextDialog, "text_dialog")
    assert "Traceback …" in child(dialog, QPlainTextEdit, "text_dialog_text").toPlainText()
    dialog.close()


def test_picture_saved_elsewhere_is_told_in_the_status_line(
    window: MainWindow, ready: WindowParts, tmp_path: Path
):
    ready.results.copied.emit(tmp_path / "mine.png")
    assert str(tmp_path / "mine.png") in window.statusBar().currentMessage()


def test_each_error_has_its_own_details(window: MainWindow):
    for details in ("first", "second"):
        window.show_error(ErrorInfo(code="same", message="It broke.", details=details))
        action(window, "message_details").trigger()
    dialogs = window.findChildren(TextDialog)
    texts = [child(one, QPlainTextEdit, "text_dialog_text").toPlainText() for one in dialogs]
    assert [text.rpartition("\n")[2] for text in texts] == ["first", "second"]
    for dialog in dialogs:
        dialog.close()


def test_finished_job_asks_for_attention_only_when_wanted(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    alerts: list[QWidget] = []
    monkeypatch.setattr(QApplication, "alert", staticmethod(alerts.append))
    for notify, active, expected in ((True, True, 0), (False, False, 0), (True, False, 1)):
        monkeypatch.setattr(window, "isActiveWindow", lambda active=active: active)
        ready.settings.update(notify_when_done=notify)
        run(ready)
        with qtbot.waitSignal(ready.status.attention_wanted):
            ready.engine.on_event(JobFinished(job_id="job", seconds=1.0, memory=MEMORY))
        assert len(alerts) == expected


def drop(window: MainWindow, path: Path) -> bool:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    keys = Qt.KeyboardModifier.NoModifier
    copy = Qt.DropAction.CopyAction
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, LEFT, keys)
    QApplication.sendEvent(window, enter)
    if enter.isAccepted():
        QApplication.sendEvent(window, QDropEvent(QPointF(5, 5), copy, data, LEFT, keys))
    return enter.isAccepted()


def test_dropped_picture_brings_its_settings_back(
    window: MainWindow, ready: WindowParts, tmp_path: Path
):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    request = GenerationRequest(prompt="赤い円", model="dev", seed=2**64 - 1, steps=3)
    text = PngInfo()
    text.add_itxt("headroom", record_to_json(ImageRecord(request=request, seed=request.seed)))
    path = tmp_path / "made here.png"
    Image.new("RGB", (16, 16)).save(path, pnginfo=text)
    assert drop(window, path)
    assert ready.form.request() == request


def test_dropped_model_folder_is_added(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    with qtbot.waitSignal(ready.catalog.folder_refused):
        assert drop(window, tmp_path)


def test_dropped_text_file_is_not_taken(window: MainWindow, tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("x")
    assert not drop(window, path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("settings", SettingsDialog),
        ("models", ModelsDialog),
        ("log", LogView),
        ("about", AboutDialog),
        ("shortcuts", ShortcutsDialog),
    ],
)
def test_menu_opens_a_dialog_once_that_does_not_block(
    window: MainWindow, qtbot: QtBot, name: str, kind: type[QWidget]
):
    action(window, name).trigger()
    action(window, name).trigger()
    [dialog] = window.findChildren(kind)
    assert dialog.isVisible()
    assert not dialog.isModal()
    dialog.close()
    qtbot.waitUntil(lambda: not window.findChildren(kind))
    action(window, name).trigger()
    [again] = window.findChildren(kind)
    again.close()


def test_demo_hint_opens_the_models(window: MainWindow, qtbot: QtBot):
    qtbot.mouseClick(child(window, QPushButton, "get_model_button"), LEFT)
    child(window, ModelsDialog, "models_dialog").close()


def test_a_model_that_is_not_installed_leads_to_where_it_can_be_had(
    window: MainWindow, ready: WindowParts, qtbot: QtBot
):
    ready.form.set_model("klein-9b")
    button = child(window, QPushButton, "get_model_button")
    assert button.isVisible()
    qtbot.mouseClick(button, LEFT)
    dialog = child(window, ModelsDialog, "models_dialog")
    assert "klein-9B" in child(dialog, QLabel, "models_detail").text()
    assert child(dialog, QPushButton, "models_web").isEnabled()
    dialog.close()


def test_diagnostics_reach_the_clipboard(window: MainWindow):
    action(window, "copy_diagnostics").trigger()
    assert QGuiApplication.clipboard().text() == "diagnostics of the test"


def test_edit_menu_works_on_the_focused_editor(window: MainWindow, qtbot: QtBot):
    edit = child(window, PromptEdit, "prompt_edit")
    qtbot.waitUntil(edit.hasFocus)
    qtbot.keyClicks(edit, "a ring")
    action(window, "select_all").trigger()
    action(window, "cut").trigger()
    assert edit.toPlainText() == ""
    action(window, "undo").trigger()
    assert edit.toPlainText() == "a ring"
    action(window, "redo").trigger()
    action(window, "paste").trigger()
    assert edit.toPlainText() == "a ring"


def test_theme_menu_changes_the_setting(window: MainWindow, ready: WindowParts):
    action(window, "theme_dark").trigger()
    assert ready.settings.settings.theme == "dark"
    ready.settings.update(theme="light")
    assert action(window, "theme_light").isChecked()
    assert not action(window, "theme_dark").isChecked()


def test_no_two_commands_share_a_key_in_the_window(window: MainWindow):
    keys: dict[str, str] = {}
    for one in window.actions():
        if one.shortcutContext() != Qt.ShortcutContext.WindowShortcut:
            continue
        for key in one.shortcuts():
            text = key.toString(QKeySequence.SequenceFormat.PortableText)
            assert text not in keys, f"{text}: {keys.get(text)} and {one.objectName()}"
            keys[text] = one.objectName()
    assert {"Ctrl+Enter", "Ctrl+Shift+Enter", "Esc", "Ctrl+Q"} <= set(keys)
    # Menus show the first of them, and people have an Enter key.
    assert action(window, "generate").shortcut() == QKeySequence("Ctrl+Enter")


# Layout and closing.


def test_new_window_fits_on_the_screen_with_its_title_bar(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch
):
    assert first_size().height() < QGuiApplication.primaryScreen().availableSize().height()

    class Large:
        def availableSize(self) -> QSize:
            return QSize(2560, 1440)

    monkeypatch.setattr(QGuiApplication, "primaryScreen", Large)
    assert first_size() == DEFAULT_SIZE


def test_layout_is_remembered_and_reset(window: MainWindow, ready: WindowParts, qtbot: QtBot):
    window.resize(800, 700)
    height_px = window.height()
    child(window, QDockWidget, "queue_dock").close()
    with qtbot.waitSignal(window.close_confirmed):
        window.close()
    again = ready.window()
    qtbot.addWidget(again)
    assert again.height() == height_px
    assert child(again, QDockWidget, "queue_dock").isHidden()
    action(again, "reset_layout").trigger()
    assert not child(again, QDockWidget, "queue_dock").isHidden()
    again.hide()


def test_layout_is_kept_without_a_close_and_not_of_a_hidden_window(
    window: MainWindow, ready: WindowParts
):
    path = ready.home / "data" / "window.json"
    window.save_layout()
    kept = path.read_bytes()
    window.hide()
    path.unlink()
    window.save_layout()
    assert kept
    assert not path.exists()


def test_broken_layout_gives_the_default_one(ready: WindowParts, qtbot: QtBot, expect_log):
    expect_log("layout cannot be read")
    path = ready.home / "data" / "window.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"geometry": "!", "state": ""', "utf-8")
    made = ready.window()
    qtbot.addWidget(made)
    assert not child(made, QDockWidget, "queue_dock").isHidden()


def test_window_off_every_screen_comes_back(window: MainWindow, ready: WindowParts, qtbot: QtBot):
    window.move(50_000, 50_000)
    with qtbot.waitSignal(window.close_confirmed):
        window.close()
    again = ready.window()
    qtbot.addWidget(again)
    assert any(
        screen.availableGeometry().intersects(again.frameGeometry())
        for screen in QGuiApplication.screens()
    )


def test_window_of_a_larger_screen_fits_on_this_one(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    window.resize(1600, 900)
    with qtbot.waitSignal(window.close_confirmed):
        window.close()
    small = QRect(0, 0, 1200, 700)
    monkeypatch.setattr(QScreen, "availableVirtualGeometry", lambda _screen: small)
    monkeypatch.setattr(QScreen, "availableGeometry", lambda _screen: small)
    again = ready.window()
    qtbot.addWidget(again)
    assert small.size().expandedTo(again.size()) == small.size()


def test_idle_window_closes_without_a_question(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    def ask(_reason: str, _parent: QWidget) -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(CloseDialog, "ask", ask)
    with qtbot.waitSignal(window.close_confirmed):
        window.close()
    assert not window.isVisible()


@pytest.mark.parametrize("answer", [True, False])
def test_closing_during_a_run_asks(
    window: MainWindow,
    ready: WindowParts,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,
):
    asked: list[str] = []

    def ask(reason: str, _parent: QWidget) -> bool:
        asked.append(reason)
        return answer

    monkeypatch.setattr(CloseDialog, "ask", ask)
    run(ready)
    with qtbot.waitSignal(window.close_confirmed, raising=answer, timeout=100 + 4900 * answer):
        window.close()
    assert len(asked) == 1
    assert "A picture is being made" in asked[0]
    assert window.isVisible() is not answer


# Accessibility.

CONTROLS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
)


def own_controls(root: QWidget) -> list[QWidget]:
    """Controls we made; parts that Qt puts inside other widgets are its own affair."""
    return [
        widget
        for widget in root.findChildren(QWidget)
        if isinstance(widget, CONTROLS)
        and not widget.objectName().startswith("qt_")
        and not isinstance(widget.parent(), QComboBox | QAbstractSpinBox | QLineEdit)
        # Not the lists that combo boxes open.
        and widget.window() is root
        and not isinstance(widget, QHeaderView)
        and type(widget).__name__ != "QLineEditIconButton"
    ]


def assert_named(root: QWidget) -> None:
    controls = own_controls(root)
    assert controls
    for widget in controls:
        text = widget.text() if isinstance(widget, QAbstractButton) else ""
        assert widget.objectName(), f"{widget!r} has no object name"
        assert widget.accessibleName() or text, f"{widget.objectName()} has no accessible name"


def assert_explained(root: QWidget) -> None:
    for widget in own_controls(root):
        # Rows of a list have tooltips of their own.
        if isinstance(widget, QAbstractItemView):
            continue
        in_box = "Box" in type(widget.parent()).__name__ and isinstance(widget, QPushButton)
        assert widget.toolTip() or in_box, f"{widget.objectName()} has no tooltip"


def test_every_control_of_the_window_has_names_and_a_tooltip(window: MainWindow):
    assert_named(window)
    assert_explained(window)


@pytest.mark.parametrize("name", ["settings", "models", "log", "about", "shortcuts"])
def test_every_control_of_the_dialogs_has_names_and_a_tooltip(window: MainWindow, name: str):
    action(window, name).trigger()
    kinds = {
        "settings": SettingsDialog,
        "models": ModelsDialog,
        "log": LogView,
        "about": AboutDialog,
        "shortcuts": ShortcutsDialog,
    }
    [dialog] = window.findChildren(kinds[name])
    buttons = dialog.findChildren(QPushButton)
    for widget in own_controls(dialog):
        text = widget.text() if isinstance(widget, QAbstractButton) else ""
        assert widget.accessibleName() or text
        if widget not in buttons:
            assert widget.objectName()
    assert_explained(dialog)
    dialog.close()


def test_tab_goes_through_the_form_from_top_to_bottom(window: MainWindow, qtbot: QtBot):
    order = ["prompt_edit", "generate_button", "model_combo", "add_model_folder_button"]
    edit = child(window, PromptEdit, "prompt_edit")
    qtbot.waitUntil(edit.hasFocus)
    seen: list[str] = []
    for _ in range(30):
        focused = QApplication.focusWidget()
        assert focused is not None
        seen.append(focused.objectName())
        window.focusNextChild()
    places = [seen.index(name) for name in [*order, "width_line", "steps_spin", "seed_line"]]
    assert places == sorted(places)


def test_the_picture_keeps_off_the_windows_edge_whatever_stands_beside_it(
    window: MainWindow, qtbot: QtBot
):
    picture = child(window, QWidget, "picture_panel")
    docks = [child(window, QDockWidget, name) for name in ("memory_dock", "queue_dock")]

    def right_px() -> int:
        return picture.mapTo(window, picture.rect().topRight()).x()

    gap_px = docks[0].x() - right_px()
    for dock in docks:
        dock.close()
    qtbot.waitUntil(lambda: right_px() == window.width() - 1 - theme.SPACING_PX)
    docks[0].show()
    qtbot.waitUntil(lambda: docks[0].x() - right_px() == gap_px)
