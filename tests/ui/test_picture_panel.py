"""The picture panel: follows a run, shows what is chosen, and does what its commands say."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QAction, QDrag, QDragEnterEvent, QDropEvent, QGuiApplication, QWheelEvent
from PySide6.QtWidgets import QApplication, QLabel, QToolButton, QWidget

from app.core.errors import ErrorInfo
from app.core.events import (
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    PhaseStarted,
)
from app.core.jobs import JobState, Phase
from app.core.request import GenerationRequest
from app.ui.models import results_model
from app.ui.models.engine_model import EngineModel
from app.ui.models.results_model import ResultsModel
from app.ui.panels import result_commands
from app.ui.panels.picture_panel import PicturePanel
from app.ui.widgets.image_view import ImageView
from app.ui.widgets.message_bar import MessageBar
from app.ui.widgets.save_picture_dialog import SavePictureDialog, with_png_suffix
from app.ui.widgets.thumbnail_strip import ThumbnailStrip
from tests.fakes.job_control import FakeJobControl
from tests.ui.find import find
from tests.ui.run_events import MEMORY, job, preview, queue, step, write_png


@pytest.fixture
def control() -> FakeJobControl:
    return FakeJobControl()


@pytest.fixture
def engine(qapp, control: FakeJobControl):
    model = EngineModel(control)
    yield model
    model.on_event(queue())


@pytest.fixture
def results(engine: EngineModel):
    model = ResultsModel(engine)
    yield model
    model.stop()


@pytest.fixture
def panel(qtbot, engine: EngineModel, results: ResultsModel) -> PicturePanel:
    made = PicturePanel(engine, results)
    qtbot.addWidget(made)
    made.resize(700, 600)
    made.show()
    return made


class Studio:
    """Plays the conductor for a panel."""

    def __init__(self, qtbot, engine: EngineModel, results: ResultsModel, folder: Path) -> None:
        self.qtbot, self.engine, self.results, self.folder = qtbot, engine, results, folder

    def start(self, job_id: str = "a") -> None:
        self.engine.on_event(queue(job(job_id, seed=100, prompt="a ring")))
        self.engine.on_event(PhaseStarted(job_id=job_id, phase=Phase.DENOISE))

    def image(
        self, job_id: str = "a", *, colour: str = "#c80a14", saved: bool = True, index: int = 0
    ) -> Path:
        path = write_png(self.folder / f"{job_id}{index}.png", colour)
        event = ImageDone(
            job_id=job_id,
            index=index,
            seed=100 + index,
            path=str(path) if saved else None,
            png=None if saved else path.read_bytes(),
            problem=None if saved else ErrorInfo(code="output.full", message="The disk is full."),
        )
        self.engine.on_event(event)
        return path

    def finish(self, job_id: str = "a") -> None:
        self.engine.on_event(JobFinished(job_id=job_id, seconds=3.21, memory=MEMORY))
        self.engine.on_event(queue(job(job_id, JobState.FINISHED)))

    def run(self, job_id: str = "a", **image) -> Path:
        """A whole job, until its picture is shown."""
        self.start(job_id)
        with self.qtbot.waitSignal(self.results.picture_loaded):
            path = self.image(job_id, **image)
        self.finish(job_id)
        return path


@pytest.fixture
def studio(qtbot, engine, results, panel, tmp_path) -> Studio:
    return Studio(qtbot, engine, results, tmp_path)


def view(panel: PicturePanel) -> ImageView:
    return find(panel, ImageView, "image_view")


def strip(panel: PicturePanel) -> ThumbnailStrip:
    return find(panel, ThumbnailStrip, "thumbnail_strip")


def message(panel: PicturePanel, name: str = "picture_message") -> MessageBar:
    return find(panel, MessageBar, name)


def text(panel: PicturePanel, name: str) -> str:
    return find(panel, QLabel, name).text()


def click(qtbot, panel: QWidget, name: str) -> None:
    button = find(panel, QToolButton, name)
    assert button.isVisible()
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def centre_colour(panel: PicturePanel) -> str:
    shown = view(panel)
    return shown.grab().toImage().pixelColor(shown.rect().center()).name()


# A run.


def test_empty_panel_has_a_hint_and_nothing_to_command(panel):
    assert view(panel).is_empty
    assert not strip(panel).isVisible()
    assert not any(action.isEnabled() for action in panel.commands.on_picture)
    assert not panel.commands.fit.isEnabled()
    assert text(panel, "progress_phase") == "Ready"


def test_preview_is_shown_and_then_replaced_by_the_picture(panel, studio, engine, qtbot):
    studio.start()
    engine.on_event(step(1, preview=preview((1, 200, 3))))
    assert view(panel).shows_preview
    assert centre_colour(panel) == "#01c803"
    assert text(panel, "progress_step") == "Step 1 of 8"
    with qtbot.waitSignal(studio.results.picture_loaded):
        studio.image()
    studio.finish()
    assert not view(panel).shows_preview
    assert centre_colour(panel) == "#c80a14"
    assert text(panel, "progress_phase") == "Done in 3.21 s"
    assert strip(panel).isVisible()
    assert strip(panel).current_row() == 0


def test_cancelled_run_gives_the_last_picture_back(panel, studio, engine):
    studio.run()
    studio.start("b")
    engine.on_event(step(1, "b", preview=preview((1, 200, 3))))
    assert centre_colour(panel) == "#01c803"
    engine.on_event(JobCancelled(job_id="b"))
    assert centre_colour(panel) == "#c80a14"
    assert text(panel, "progress_phase") == "Cancelled"


def test_taking_back_a_waiting_job_leaves_the_running_one_s_row(panel, studio, engine):
    engine.on_event(queue(job("a"), job("b", JobState.QUEUED)))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(JobCancelled(job_id="b"))
    assert text(panel, "progress_phase") == "Drawing"


def test_failed_run_says_why_and_can_be_tried_again(panel, studio, engine, control, qtbot):
    studio.start()
    failed = job("a", JobState.FAILED, prompt="a ring")
    error = ErrorInfo(code="engine", message="It broke: close other programs.")
    engine.on_event(JobFailed(job_id="a", error=error))
    engine.on_event(queue(failed))
    assert message(panel).isVisible()
    assert message(panel).text == error.message
    assert text(panel, "progress_phase") == "Failed"
    click(qtbot, panel, "picture_message_retry")
    assert control.submitted[0][0].request == failed.request
    assert not message(panel).isVisible()


def test_cancel_button_cancels_the_running_job(panel, studio, control, qtbot):
    studio.start()
    click(qtbot, panel, "progress_cancel")
    assert control.calls == [("cancel", "a")]
    assert text(panel, "progress_phase") == "Cancelling"


def test_notices_and_restarts_are_told(panel, studio, engine):
    studio.start()
    engine.on_event(Notice(job_id="a", code="prompt.cut", message="The prompt is cut."))
    assert message(panel).text == "The prompt is cut."
    engine.on_event(EngineStateChanged(state=EngineState.RESTARTING, reason="It died; again."))
    assert message(panel).text == "It died; again."
    assert message(panel).kind == "notice"


# Following.


def test_choosing_a_picture_stops_following_until_the_button_says_so(panel, studio, engine, qtbot):
    studio.run("a", colour="#102030")
    studio.run("b", colour="#203040")
    studio.start("c")
    engine.on_event(step(1, "c", preview=preview((1, 200, 3))))
    with qtbot.waitSignal(studio.results.picture_loaded):
        strip(panel).set_current_row(1)
    assert not panel.commands.follow.isChecked()
    assert centre_colour(panel) == "#102030"
    engine.on_event(step(2, "c", preview=preview((1, 200, 3))))
    assert centre_colour(panel) == "#102030"
    click(qtbot, panel, "button_follow")
    assert centre_colour(panel) == "#01c803"


def test_new_pictures_do_not_take_the_view_from_a_chosen_one(panel, studio, qtbot):
    studio.run("a", colour="#102030")
    studio.run("b")
    studio.start("c")
    with qtbot.waitSignal(studio.results.picture_loaded):
        strip(panel).set_current_row(1)
    studio.image("c")
    studio.finish("c")
    assert strip(panel).current_row() == 2
    assert centre_colour(panel) == "#102030"


def test_clicking_the_current_thumbnail_uncovers_its_picture(panel, studio, engine, qtbot):
    studio.run()
    studio.start("b")
    engine.on_event(step(1, "b", preview=preview((1, 200, 3))))
    thumbnail = strip(panel).visualRect(strip(panel).currentIndex()).center()
    qtbot.mouseClick(strip(panel).viewport(), Qt.MouseButton.LeftButton, pos=thumbnail)
    assert centre_colour(panel) == "#c80a14"
    assert not panel.commands.follow.isChecked()


def test_generating_follows_again(panel, studio, engine, control):
    studio.run("a")
    panel.commands.follow.setChecked(False)
    engine.retry("a")
    assert panel.commands.follow.isChecked()


def test_following_again_with_nothing_running_shows_the_newest(panel, studio, qtbot):
    studio.run("a", colour="#102030")
    studio.run("b", colour="#203040")
    with qtbot.waitSignal(studio.results.picture_loaded):
        strip(panel).set_current_row(1)
    with qtbot.waitSignal(studio.results.picture_loaded):
        click(qtbot, panel, "button_follow")
    assert strip(panel).current_row() == 0
    assert centre_colour(panel) == "#203040"


def test_arrow_keys_move_through_the_thumbnails(panel, studio, qtbot):
    studio.run("a", colour="#102030")
    studio.run("b")
    with qtbot.waitSignal(studio.results.picture_loaded):
        qtbot.keyClick(strip(panel), Qt.Key.Key_Right)
    assert strip(panel).current_row() == 1
    assert centre_colour(panel) == "#102030"


# Zoom.


def test_zoom_buttons(panel, studio, qtbot):
    studio.run()
    fitted = view(panel).scale
    click(qtbot, panel, "button_actual_size")
    assert view(panel).scale == 1.0
    assert text(panel, "zoom_label") == "100 %"
    click(qtbot, panel, "button_zoom_in")
    assert view(panel).scale == 1.25
    click(qtbot, panel, "button_zoom_out")
    assert view(panel).scale == 1.0
    click(qtbot, panel, "button_fit")
    assert view(panel).scale == fitted


# Commands.


def test_copy_puts_the_picture_on_the_clipboard(panel, studio, qtbot):
    studio.run()
    click(qtbot, panel, "button_copy_image")
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
        click(qtbot, panel, "button_use_settings")
    assert blocker.args == [GenerationRequest(prompt="a ring", seed=101, images=1)]


def test_save_as_writes_where_the_user_says(panel, studio, qtbot, tmp_path, monkeypatch):
    path = studio.run()
    asked: list[Path] = []

    def ask(parent: QWidget, suggestion: Path) -> Path:
        asked.append(suggestion)
        return tmp_path / "mine.png"

    monkeypatch.setattr(SavePictureDialog, "ask", ask)
    click(qtbot, panel, "button_save_as")
    assert asked == [path]
    assert (tmp_path / "mine.png").read_bytes() == path.read_bytes()


def test_save_as_can_be_thought_better_of(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run()
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: None)
    click(qtbot, panel, "button_save_as")
    assert set(tmp_path.iterdir()) == before


def test_unsaved_picture_says_so_and_is_rescued(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run(saved=False)
    unsaved = message(panel, "picture_unsaved")
    assert unsaved.isVisible()
    assert unsaved.text == "The disk is full."
    assert not panel.commands.show_in_folder.isEnabled()
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: tmp_path / "new.png")
    with qtbot.waitSignal(studio.results.picture_loaded):
        click(qtbot, panel, "picture_unsaved_save_as")
    assert (tmp_path / "new.png").exists()
    assert not unsaved.isVisible()
    assert panel.commands.show_in_folder.isEnabled()


def test_failed_save_is_told(panel, studio, qtbot, tmp_path, monkeypatch):
    studio.run()
    monkeypatch.setattr(SavePictureDialog, "ask", lambda parent, suggestion: tmp_path)
    click(qtbot, panel, "button_save_as")
    assert message(panel).kind == "problem"
    assert "is a folder" in message(panel).text


def test_show_in_folder(panel, studio, qtbot, monkeypatch):
    path = studio.run()
    shown: list[Path] = []

    def show(one: Path) -> bool:
        shown.append(one)
        return len(shown) == 1

    monkeypatch.setattr(result_commands, "show_in_folder", show)
    click(qtbot, panel, "button_show_in_folder")
    assert shown == [path]
    assert not message(panel).isVisible()
    click(qtbot, panel, "button_show_in_folder")
    assert str(path) in message(panel).text


def test_trash_and_undo(panel, studio, qtbot, tmp_path, monkeypatch):
    (tmp_path / "trash").mkdir()
    monkeypatch.setattr(
        results_model, "move_to_trash", lambda path: path.rename(tmp_path / "trash" / path.name)
    )
    path = studio.run("a", colour="#102030")
    newer = studio.run("b")
    with qtbot.waitSignal(studio.results.picture_loaded):
        click(qtbot, panel, "button_trash")
    assert not newer.exists()
    assert centre_colour(panel) == "#102030"
    click(qtbot, panel, "button_trash")
    assert not path.exists()
    assert view(panel).is_empty
    assert message(panel).text == "a0.png is in the trash."
    with qtbot.waitSignal(studio.results.picture_loaded):
        click(qtbot, panel, "picture_message_undo_trash")
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


def drop(widget: QWidget, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    no_key = Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(widget, QDragEnterEvent(QPoint(50, 50), copy, data, left, no_key))
    QApplication.sendEvent(widget, QDropEvent(QPointF(50, 50), copy, data, left, no_key))


def test_dropped_picture_of_ours_brings_its_settings(panel, qtbot, tmp_path, monkeypatch):
    request = GenerationRequest(prompt="from a file", seed=5)
    monkeypatch.setattr(result_commands, "settings_of", lambda path: request)
    with qtbot.waitSignal(panel.use_settings) as blocker:
        drop(view(panel), tmp_path / "a.png")
    assert blocker.args == [request]


def test_dropped_picture_from_elsewhere_is_said_to_have_no_settings(panel, qtbot, tmp_path):
    path = write_png(tmp_path / "photo.png")
    with qtbot.assertNotEmitted(panel.use_settings):
        drop(view(panel), path)
    assert "photo.png has no Headroom settings" in message(panel).text


def test_every_control_has_names_and_a_tooltip(panel):
    for button in panel.findChildren(QToolButton):
        assert button.objectName()
        assert button.accessibleName()
        assert button.toolTip()
    for action in panel.findChildren(QAction):
        assert action.objectName()


def test_wheel_moves_along_the_strip(panel, studio, qtbot):
    for name in "abcdefghij":
        studio.start(name)
        studio.image(name)
        studio.finish(name)
    bar = strip(panel).horizontalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    event = QWheelEvent(
        QPointF(50, 20),
        QPointF(50, 20),
        QPoint(),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(strip(panel).viewport(), event)
    assert bar.value() > 0


@pytest.mark.parametrize(
    ("given", "path"),
    [("a.png", "a.png"), ("a.PNG", "a.PNG"), ("a", "a.png"), ("a.jpg", "a.jpg.png")],
)
def test_saved_pictures_are_png(given: str, path: str):
    assert with_png_suffix(Path(given)) == Path(path)
