"""Every underlined letter leads to one thing: in each menu, and with Alt in each window."""

from collections.abc import Iterable

import pytest
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractButton,
    QDialog,
    QGroupBox,
    QLabel,
    QMenu,
    QMenuBar,
    QTabBar,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.core.errors import ErrorInfo
from app.core.events import QueueChanged
from app.core.jobs import Job, JobState, OutputTarget
from app.core.request import GenerationRequest
from app.ui.main_window import MainWindow
from app.ui.models.monitor_model import MonitorModel
from app.ui.panels.memory_panel import MemoryPanel
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

JOB = Job(
    id="job",
    request=GenerationRequest(prompt="a ring"),
    model_folder="/m",
    output=OutputTarget(folder="/p"),
    state=JobState.RUNNING,
)


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot) -> MainWindow:
    made = ready.window()

    def forget_jobs(_window: QWidget) -> None:
        # Nothing is asked when the window is closed, also after a failure.
        ready.engine.on_event(QueueChanged(jobs=()))

    qtbot.addWidget(made, before_close_func=forget_jobs)
    made.set_memory_panel(MemoryPanel(MonitorModel(parent=made)))
    made.show()
    qtbot.waitExposed(made)
    return made


def own_texts(widget: QWidget) -> list[str]:
    """Texts of a widget whose underlined letters work with Alt in its window."""
    if isinstance(widget, QMenuBar):
        return [action.text() for action in widget.actions()]
    if isinstance(widget, QTabBar):
        return [widget.tabText(index) for index in range(widget.count())]
    if isinstance(widget, QLabel):
        return [widget.text()] if widget.buddy() is not None else []
    if isinstance(widget, QToolButton) and widget.defaultAction() is not None:
        # Qt takes the underlining out of an action's text.
        return []
    if isinstance(widget, QAbstractButton):
        return [widget.text()]
    return [widget.title()] if isinstance(widget, QGroupBox) else []


def texts_of_window(root: QWidget) -> list[str]:
    """All that Alt and a letter can reach in a window now, also what is scrolled away."""
    widgets = [one for one in root.findChildren(QWidget) if one.window() is root]
    return [text for one in widgets if not one.isHidden() for text in own_texts(one)]


def clashes(texts: Iterable[str]) -> list[str]:
    """Texts that share their underlined letter with one before them."""
    seen: dict[str, str] = {}
    found: list[str] = []
    for text in texts:
        letter = QKeySequence.mnemonic(text).toString()
        if letter in seen:
            found.append(f"{letter}: {seen[letter]} and {text}")
        elif letter:
            seen[letter] = text
    return found


def texts_of_actions(actions: Iterable[QAction]) -> list[str]:
    return [action.text() for action in actions]


def test_clash_is_seen():
    assert clashes(["&Prompt", "Seed", "&Queue"]) == []
    assert clashes(["&Prompt", "Sto&p"]) == ["Alt+P: &Prompt and Sto&p"]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("model", ["demo", "dev"])
def test_letters_of_the_window_are_unique(
    window: MainWindow, ready: WindowParts, running: bool, paused: bool, model: str
):
    ready.form.set_model(model)  # One shows the guidance, the other does not.
    ready.engine.on_event(QueueChanged(jobs=(JOB,) if running else (), paused=paused))
    window.show_error(ErrorInfo(code="x", message="It broke."))
    texts = texts_of_window(window)
    assert len([text for text in texts if "&" in text]) >= 12
    assert clashes(texts) == []


def test_letters_of_each_menu_are_unique(window: MainWindow):
    menus = [menu for menu in window.findChildren(QMenu) if menu.actions()]
    assert len(menus) >= 7
    for menu in menus:
        found = clashes(texts_of_actions(menu.actions()))
        assert found == [], menu.title()


def test_letters_of_each_context_menu_are_unique(window: MainWindow):
    for name in ("image_view", "thumbnail_strip", "job_list"):
        actions = child(window, QWidget, name).actions()
        assert actions
        assert clashes(texts_of_actions(actions)) == [], name


@pytest.mark.parametrize("name", ["settings", "models", "log", "about", "shortcuts", "measure"])
def test_letters_of_each_dialog_are_unique(window: MainWindow, name: str):
    child(window, QAction, f"action_{name}").trigger()
    [dialog] = [one for one in window.findChildren(QDialog) if one.isVisible()]
    assert clashes(texts_of_window(dialog)) == []
    dialog.close()
