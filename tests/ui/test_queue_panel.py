"""The queue panel: shows every job and does what is wanted with the chosen one."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt
from PySide6.QtGui import QAction, QDropEvent
from PySide6.QtWidgets import QLabel, QToolButton

from app.core.errors import ErrorInfo
from app.core.events import PhaseStarted
from app.core.jobs import JobState, Phase
from app.ui import theme
from app.ui.models.engine_model import EngineModel
from app.ui.models.jobs_model import JobsModel
from app.ui.panels.queue_panel import QueuePanel
from app.ui.widgets.job_list import JobList
from app.ui.widgets.message_bar import MessageBar
from tests.fakes.job_control import FakeJobControl
from tests.ui.find import find
from tests.ui.run_events import job, queue, step

QUEUED = JobState.QUEUED
JOBS = (
    job("a"),
    job("b", QUEUED),
    job("c", QUEUED),
    job("d", QUEUED),
    job("e", JobState.FAILED, error="The disk is full: free some space."),
    job("f", JobState.FINISHED),
)


@pytest.fixture
def control() -> FakeJobControl:
    return FakeJobControl()


@pytest.fixture
def engine(qapp, control: FakeJobControl):
    model = EngineModel(control)
    yield model
    model.on_event(queue())


@pytest.fixture
def panel(qtbot, engine: EngineModel) -> QueuePanel:
    jobs = JobsModel(engine)
    made = QueuePanel(engine, jobs)
    # The model has no other owner here.
    jobs.setParent(made)
    qtbot.addWidget(made)
    made.resize(360, 600)
    made.show()
    return made


def job_list(panel: QueuePanel) -> JobList:
    return find(panel, JobList, "job_list")


def choose(panel: QueuePanel, row: int) -> None:
    shown = job_list(panel)
    shown.setCurrentIndex(shown.model().index(row, 0))


def click(qtbot, panel: QueuePanel, name: str) -> None:
    button = find(panel, QToolButton, name)
    assert button.isVisible()
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def enabled(panel: QueuePanel) -> set[str]:
    names = ("move_up", "move_down", "cancel", "retry", "remove", "clear_ended")
    return {name for name in names if getattr(panel, name).isEnabled()}


def row_colours(panel: QueuePanel, row: int) -> set[str]:
    shown = job_list(panel)
    rect = shown.visualRect(shown.model().index(row, 0))
    image = shown.viewport().grab(rect).toImage()
    return {
        image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())
    }


def test_empty_queue_has_a_hint_and_nothing_to_command(panel, engine):
    def drawn_colours() -> int:
        image = job_list(panel).viewport().grab().toImage()
        middle = range(image.height() // 3, image.height() * 2 // 3)
        return len({image.pixel(x, y) for x in range(image.width()) for y in middle})

    assert enabled(panel) == set()
    assert find(panel, QLabel, "queue_summary").text() == "Nothing waits"
    with_hint = drawn_colours()
    engine.on_event(queue(job("a", JobState.FINISHED)))
    assert drawn_colours() < with_hint


def test_summary_counts(panel, engine):
    engine.on_event(queue(*JOBS))
    assert find(panel, QLabel, "queue_summary").text() == "1 running · 3 waiting"
    engine.on_event(queue(*JOBS[1:], paused=True))
    assert find(panel, QLabel, "queue_summary").text() == "Paused · 3 waiting"


def test_running_job_shows_a_bar_in_the_accent_colour(panel, engine):
    engine.on_event(queue(*JOBS))
    engine.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    engine.on_event(step(4))
    assert theme.colours().accent in row_colours(panel, 0)
    assert theme.colours().accent not in row_colours(panel, 1)


def test_failed_job_is_as_high_as_its_sentence_needs(panel, engine):
    failed = next(job for job in JOBS if job.error is not None)
    long = replace(failed, error=ErrorInfo(code="engine", message="It is long. " * 12))
    engine.on_event(queue(*(long if job is failed else job for job in JOBS)))
    shown = job_list(panel)

    def height() -> int:
        return shown.sizeHintForIndex(shown.model().index(4, 0)).height()

    panel.resize(1000, 600)
    plain = shown.sizeHintForIndex(shown.model().index(5, 0)).height()
    wide = height()
    assert wide > plain
    panel.resize(220, 600)
    assert height() > wide
    assert theme.colours().danger in row_colours(panel, 4)


@pytest.mark.parametrize(
    ("row", "commands"),
    [
        (0, {"cancel"}),
        (1, {"move_down", "cancel", "remove"}),
        (2, {"move_up", "move_down", "cancel", "remove"}),
        (3, {"move_up", "cancel", "remove"}),
        (4, {"retry", "remove"}),
        (5, {"retry", "remove"}),
    ],
)
def test_only_what_makes_sense_is_enabled(panel, engine, row: int, commands: set[str]):
    engine.on_event(queue(*JOBS))
    choose(panel, row)
    assert enabled(panel) == commands | {"clear_ended"}


@pytest.mark.parametrize(
    ("row", "button", "call"),
    [
        (0, "queue_cancel", ("cancel", "a")),
        (2, "queue_cancel", ("cancel", "c")),
        (2, "queue_move_up", ("move", "c", 0)),
        (2, "queue_move_down", ("move", "c", 2)),
        (2, "queue_remove", ("remove", "c")),
        (4, "queue_clear_ended", ("clear_ended",)),
        (0, "queue_pause", ("set_paused", True)),
    ],
)
def test_buttons_ask_the_conductor(panel, engine, control, qtbot, row, button, call):
    engine.on_event(queue(*JOBS))
    choose(panel, row)
    click(qtbot, panel, button)
    assert control.calls == [call]


def test_all_that_wait_are_taken_back_at_once(panel, engine, control):
    assert not panel.cancel_waiting.isEnabled()
    engine.on_event(queue(*JOBS))
    panel.cancel_waiting.trigger()
    assert control.calls == [("cancel", "d"), ("cancel", "c"), ("cancel", "b")]


def test_retry_queues_the_failed_request_again(panel, engine, control, qtbot):
    engine.on_event(queue(*JOBS))
    choose(panel, 4)
    click(qtbot, panel, "queue_retry")
    (again, front) = control.submitted[0]
    assert again.request == JOBS[4].request
    assert again.id != "e"
    assert not front


@pytest.mark.parametrize(
    ("key", "modifier", "call"),
    [
        (Qt.Key.Key_Delete, Qt.KeyboardModifier.NoModifier, ("remove", "c")),
        (Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier, ("move", "c", 0)),
        (Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier, ("move", "c", 2)),
    ],
)
def test_keys_work_on_the_list(panel, engine, control, qtbot, key, modifier, call):
    engine.on_event(queue(*JOBS))
    with qtbot.waitActive(panel):
        panel.activateWindow()
    job_list(panel).setFocus()
    choose(panel, 2)
    qtbot.keyClick(job_list(panel), key, modifier)
    assert control.calls == [call]


def test_paused_queue_can_be_resumed(panel, engine, control, qtbot):
    engine.on_event(queue(*JOBS))
    engine.pause()
    engine.on_event(queue(*JOBS, paused=True))
    assert panel.pause.text() == "&Resume queue"
    click(qtbot, panel, "queue_pause")
    assert control.calls[-1] == ("set_paused", False)
    assert not find(panel, MessageBar, "queue_from_last_time").isVisible()


def test_jobs_from_last_time_are_offered(panel, engine, control, qtbot):
    engine.on_event(queue(*JOBS[1:4], paused=True))
    hint = find(panel, MessageBar, "queue_from_last_time")
    assert hint.isVisible()
    assert hint.text == "3 jobs from last time are waiting."
    click(qtbot, panel, "queue_from_last_time_resume")
    assert control.calls == [("set_paused", False)]
    engine.on_event(queue(*JOBS[1:4]))
    assert not hint.isVisible()


def test_one_job_from_last_time_is_told_in_the_singular(panel, engine):
    engine.on_event(queue(JOBS[1], paused=True))
    hint = find(panel, MessageBar, "queue_from_last_time")
    assert hint.text == "1 job from last time is waiting."


def test_chosen_job_stays_chosen_when_it_moves(panel, engine):
    engine.on_event(queue(*JOBS))
    choose(panel, 2)
    engine.on_event(queue(JOBS[0], JOBS[2], JOBS[1], *JOBS[3:]))
    assert job_list(panel).current_job() == JOBS[2]
    assert not panel.move_up.isEnabled()


@pytest.mark.parametrize(
    ("pulled", "onto", "below", "call"),
    [
        (3, 1, False, ("move", "d", 0)),
        (1, 2, True, ("move", "b", 1)),
        (1, 5, True, ("move", "b", 2)),
    ],
)
def test_dropped_job_asks_for_its_new_place(panel, engine, control, pulled, onto, below, call):
    engine.on_event(queue(*JOBS))
    shown = job_list(panel)
    choose(panel, pulled)
    target = shown.visualRect(shown.model().index(onto, 0))
    y = target.bottom() - 2 if below else target.top() + 2
    data = QMimeData()
    event = QDropEvent(
        QPointF(target.center().x(), y),
        Qt.DropAction.MoveAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    # Straight to the handler: Qt delivers drops only while a mouse really drags.
    shown.dropEvent(event)
    assert control.calls == [call]
    assert event.dropAction() == Qt.DropAction.IgnoreAction
    assert shown.model().rowCount() == len(JOBS)


def test_every_control_has_names_and_a_tooltip(panel):
    for button in panel.findChildren(QToolButton):
        assert button.objectName()
        assert button.accessibleName()
        assert button.toolTip()
    for action in panel.findChildren(QAction):
        assert action.objectName()


def test_context_menu_offers_the_commands_on_a_job(panel):
    shown = job_list(panel)
    assert shown.contextMenuPolicy() == Qt.ContextMenuPolicy.ActionsContextMenu
    assert panel.cancel in shown.actions()
    assert panel.retry in shown.actions()
