"""The picture panel: follows a run, shows what is chosen, takes what is dropped."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QToolButton, QWidget

from app.core.errors import ErrorInfo
from app.core.events import (
    CONVERTING_CODE,
    FORESEEN_CODE,
    REPEATED_CODE,
    EngineState,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    PhaseStarted,
)
from app.core.jobs import JobState, OutputTarget, Phase
from app.core.request import GenerationRequest
from app.ui.models.engine_model import EngineModel
from app.ui.models.picture_files import PictureSettings
from app.ui.models.picture_memory import PictureMemory
from app.ui.panels import result_commands
from app.ui.panels.picture_panel import PicturePanel
from tests.fakes.job_control import FakeJobControl
from tests.ui.picture_studio import PictureStudio, centre_colour, message, strip, text, view
from tests.ui.run_events import MEMORY, job, preview, queue, step, write_png


@pytest.fixture
def studio(qtbot, tmp_path):
    made = PictureStudio(qtbot, tmp_path)
    yield made
    made.close()


@pytest.fixture
def panel(studio: PictureStudio) -> PicturePanel:
    return studio.panel


@pytest.fixture
def engine(studio: PictureStudio) -> EngineModel:
    return studio.engine


@pytest.fixture
def control(studio: PictureStudio) -> FakeJobControl:
    return studio.control


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
    studio.click("picture_message_retry")
    assert control.submitted[0][0].request == failed.request
    assert not message(panel).isVisible()


def fail(studio: PictureStudio, engine: EngineModel, job_id: str) -> None:
    """A job fails."""
    studio.start(job_id)
    error = ErrorInfo(code="engine.x", message="It broke.")
    engine.on_event(JobFailed(job_id=job_id, error=error))
    engine.on_event(queue(job(job_id, JobState.FAILED, seed=100, prompt="a ring")))


def test_failure_is_shown_until_a_job_succeeds(panel, studio, engine):
    fail(studio, engine, "a")
    studio.start("b")
    engine.on_event(JobCancelled(job_id="b"))
    assert message(panel).isVisible()
    studio.run("c")
    assert not message(panel).isVisible()


def test_failure_goes_when_its_job_is_tried_again_from_elsewhere(panel, studio, engine):
    fail(studio, engine, "a")
    other = GenerationRequest(prompt="another")
    output = OutputTarget(folder="/p")
    engine.generate(other, model_folder="/m", output=output, previews=False)
    assert message(panel).isVisible()
    engine.retry("a")
    assert not message(panel).isVisible()


def test_success_leaves_what_is_said_about_a_file(panel, studio, engine):
    fail(studio, engine, "a")
    studio.results.failed.emit(ErrorInfo(code="output.x", message="The disk is full."))
    studio.run("b")
    assert message(panel).isVisible()
    assert message(panel).text == "The disk is full."


def test_cancel_button_cancels_the_running_job(panel, studio, control, qtbot):
    studio.start()
    studio.click("progress_cancel")
    assert control.calls == [("cancel", "a")]
    assert text(panel, "progress_phase") == "Cancelling"


def test_notices_and_restarts_are_told(panel, studio, engine):
    studio.start()
    engine.on_event(Notice(job_id="a", code="prompt.cut", message="The prompt is cut."))
    assert message(panel).text == "The prompt is cut."
    engine.on_event(EngineStateChanged(state=EngineState.RESTARTING, reason="It died; again."))
    assert message(panel).text == "It died; again."
    assert message(panel).kind == "notice"


@pytest.mark.parametrize("went_well", [True, False])
def test_trouble_on_the_way_is_old_news_once_the_picture_is_made(panel, studio, engine, went_well):
    for trouble in (
        EngineStateChanged(state=EngineState.RESTARTING, reason="It died; again."),
        Notice(job_id="a", code=REPEATED_CODE, message="It is tried again."),
        Notice(job_id="a", code=FORESEEN_CODE, message="It will be short."),
    ):
        studio.start()
        engine.on_event(trouble)
        assert message(panel).isVisible()
        if went_well:
            engine.on_event(JobFinished(job_id="a", seconds=1.0, memory=MEMORY))
        else:
            engine.on_event(JobCancelled(job_id="a"))
        assert message(panel).isVisible() is not went_well


def test_that_weights_are_converted_is_told_while_they_are(panel, studio, engine):
    studio.start()
    engine.on_event(Notice(job_id="a", code=CONVERTING_CODE, message="It is converted."))
    assert (message(panel).text, message(panel).kind) == ("It is converted.", "info")
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.ENCODE))
    assert message(panel).isVisible()
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    assert not message(panel).isVisible()


def test_a_notice_of_another_kind_stays(panel, studio, engine):
    studio.start()
    engine.on_event(Notice(job_id="a", code=CONVERTING_CODE, message="It is converted."))
    engine.on_event(Notice(job_id="a", code="prompt.cut", message="The prompt is cut."))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    assert message(panel).isVisible()
    assert message(panel).kind == "notice"


def test_end_of_an_idle_engine_is_told(panel, engine):
    engine.on_event(EngineStateChanged(state=EngineState.STOPPED, reason="It died."))
    assert message(panel).text == "It died."


def test_new_job_in_a_paused_queue_offers_to_resume(panel, studio, engine, control):
    waiting = job("a", JobState.QUEUED)
    engine.on_event(queue(waiting, paused=True))
    engine.retry("a")
    assert message(panel).isVisible()
    assert "paused" in message(panel).text
    studio.click("picture_message_resume_queue")
    assert control.calls == [("set_paused", False)]
    engine.on_event(queue(waiting))
    assert not message(panel).isVisible()


def test_failed_job_that_was_cleared_away_cannot_be_tried_again(panel, studio, engine):
    studio.start()
    engine.on_event(JobFailed(job_id="a", error=ErrorInfo(code="x", message="It failed.")))
    assert panel.commands.retry.isEnabled()
    engine.on_event(queue())
    assert not panel.commands.retry.isEnabled()


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
    studio.click("button_follow")
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
        studio.click("button_follow")
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
    studio.click("button_actual_size")
    assert view(panel).scale == 1.0
    assert text(panel, "zoom_label") == "100 %"
    studio.click("button_zoom_in")
    assert view(panel).scale == 1.25
    studio.click("button_zoom_out")
    assert view(panel).scale == 1.0
    studio.click("button_fit")
    assert view(panel).scale == fitted


def drop(widget: QWidget, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    no_key = Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(widget, QDragEnterEvent(QPoint(50, 50), copy, data, left, no_key))
    QApplication.sendEvent(widget, QDropEvent(QPointF(50, 50), copy, data, left, no_key))


def test_dropped_picture_of_ours_brings_its_settings(panel, qtbot, tmp_path, monkeypatch):
    request = GenerationRequest(prompt="from a file", seed=5)
    found = PictureSettings(request=request, memory=PictureMemory(mode="minimal"))
    monkeypatch.setattr(result_commands, "settings_of", lambda path: found)
    with qtbot.waitSignal(panel.use_settings) as blocker:
        drop(view(panel), tmp_path / "a.png")
    assert blocker.args == [request, found.memory]


def test_dropped_picture_from_elsewhere_is_said_to_have_no_settings(panel, qtbot, tmp_path):
    path = write_png(tmp_path / "photo.png")
    with qtbot.assertNotEmitted(panel.use_settings):
        drop(view(panel), path)
    assert "photo.png has no Headroom settings" in message(panel).text


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is not there"), (b"", "is no PNG picture"), (b"hello", "is no PNG picture")],
)
def test_what_is_no_picture_at_all_is_called_that(panel, tmp_path, content, said):
    path = tmp_path / "thing.png"
    if content is not None:
        path.write_bytes(content)
    drop(view(panel), path)
    assert f"thing.png {said}" in message(panel).text


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
