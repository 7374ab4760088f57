"""Kept on disk: the model and its part of the Models dialog, with real files."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtWidgets import QCheckBox, QDialogButtonBox, QLabel, QListView, QPushButton
from pytestqt.qtbot import QtBot

from app.core.events import JobFinished, QueueChanged
from app.core.jobs import JobState
from app.core.policy import Precision
from app.core.settings import SettingsStore
from app.ui.models.kept_model import KEPT_ROLE
from app.ui.panels.kept_prompts import KeptPrompts
from app.ui.panels.models_dialog import ModelsDialog
from app.ui.panels.settings_dialog import SettingsDialog
from tests.fakes.conductor_stage import make_job
from tests.fakes.converted import KLEIN, keep_prompt, make_converted
from tests.fakes.engine import MEMORY
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def converted(ready: WindowParts) -> Path:
    """Folder of the converted weights, with two files; one prompt is kept besides."""
    folder = ready.home / "cache" / "converted"
    make_converted(folder, Precision.FP8, used_s=2000)
    make_converted(folder, Precision.NF4, component="text_encoder")
    keep_prompt(ready.home / "cache" / "embeddings")
    return folder


@pytest.fixture
def dialog(ready: WindowParts, converted: Path, qtbot: QtBot) -> ModelsDialog:
    assert converted.is_dir()
    with qtbot.waitSignal(ready.kept.refreshed):
        made = ModelsDialog(ready.catalog, kept=ready.kept)
    qtbot.addWidget(made)
    made.show()
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions that were asked; each is answered with yes."""
    questions: list[str] = []

    def yes(_parent: object, _title: str, question: str) -> bool:
        questions.append(question)
        return True

    monkeypatch.setattr(KeptPrompts, "ask", staticmethod(yes))
    return questions


def text(dialog: ModelsDialog, name: str) -> str:
    return child(dialog, QLabel, name).text()


def button(dialog: ModelsDialog, name: str) -> QPushButton:
    return child(dialog, QPushButton, name)


def choose(dialog: ModelsDialog, row: int) -> None:
    view = child(dialog, QListView, "kept_list")
    view.setCurrentIndex(view.model().index(row, 0))


def rows(dialog: ModelsDialog) -> list[str]:
    model = child(dialog, QListView, "kept_list").model()
    return [model.index(row, 0).data() for row in range(model.rowCount(QModelIndex()))]


def test_rows_are_sound(ready: WindowParts, converted: Path, qtbot: QtBot, qtmodeltester):
    with qtbot.waitSignal(ready.kept.refreshed):
        ready.kept.refresh()
    qtmodeltester.check(ready.kept, force_py=True)
    tips = {ready.kept.index(row, 0).data(Qt.ItemDataRole.ToolTipRole) for row in (0, 1)}
    assert tips == {str(path) for path in converted.iterdir()}
    assert ready.kept.converted_bytes == sum(path.stat().st_size for path in converted.iterdir())


def test_what_is_kept_is_shown_with_sizes(dialog: ModelsDialog):
    assert rows(dialog) == [
        f"{KLEIN}, transformer in fp8: 1.1 KB",
        f"{KLEIN}, text encoder in 4 bits: 1.1 KB",
    ]
    assert text(dialog, "kept_converted") == "Converted weights: 2.2 KB in all"
    assert text(dialog, "kept_prompts") == "Kept prompts: 2.0 KB"
    assert not button(dialog, "kept_remove").isEnabled()
    assert button(dialog, "kept_clear").isEnabled()


def test_chosen_weights_are_removed_when_asked(
    dialog: ModelsDialog, ready: WindowParts, converted: Path, qtbot: QtBot, asked: list[str]
):
    choose(dialog, 0)
    with qtbot.waitSignal(ready.kept.refreshed):
        qtbot.mouseClick(button(dialog, "kept_remove"), LEFT)
    (question,) = asked
    assert f"{KLEIN}, transformer in fp8" in question
    assert [path.name.partition("-")[0] for path in converted.iterdir()] == ["text_encoder"]
    assert len(rows(dialog)) == 1
    assert not button(dialog, "kept_remove").isEnabled()


def test_all_chosen_weights_are_removed_at_once(
    dialog: ModelsDialog, ready: WindowParts, converted: Path, qtbot: QtBot, asked: list[str]
):
    child(dialog, QListView, "kept_list").selectAll()
    with qtbot.waitSignal(ready.kept.refreshed):
        button(dialog, "kept_remove").click()
    assert len(asked) == 1
    assert list(converted.iterdir()) == []
    assert child(dialog, QListView, "kept_list").isHidden()
    assert text(dialog, "kept_converted").startswith("No converted weights")


def test_nothing_goes_without_a_yes(
    dialog: ModelsDialog, ready: WindowParts, converted: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(KeptPrompts, "ask", lambda *_args: False)
    choose(dialog, 0)
    button(dialog, "kept_remove").click()
    button(dialog, "kept_clear").click()
    ready.background.close()  # What was begun is done.
    assert len(list(converted.iterdir())) == 2
    assert len(list((ready.home / "cache" / "embeddings").iterdir())) == 1


def test_weights_are_not_removed_while_a_run_goes_on(
    dialog: ModelsDialog, ready: WindowParts, converted: Path, qtbot: QtBot, asked: list[str]
):
    job = replace(make_job("one"), state=JobState.RUNNING)
    ready.engine.on_event(QueueChanged(jobs=(job,)))
    choose(dialog, 0)
    button(dialog, "kept_remove").click()
    assert asked == []
    assert "A run is going on" in text(dialog, "kept_message")
    with qtbot.waitSignal(ready.kept.refused):
        ready.kept.remove([ready.kept.index(0, 0).data(KEPT_ROLE)])
    assert len(list(converted.iterdir())) == 2
    ready.engine.on_event(QueueChanged(jobs=()))
    with qtbot.waitSignal(ready.kept.refreshed):
        button(dialog, "kept_remove").click()
    assert child(dialog, QLabel, "kept_message").isHidden()
    assert len(list(converted.iterdir())) == 1


def test_prompts_are_cleared_when_asked(
    dialog: ModelsDialog, ready: WindowParts, qtbot: QtBot, asked: list[str]
):
    with qtbot.waitSignal(ready.kept.refreshed):
        qtbot.mouseClick(button(dialog, "kept_clear"), LEFT)
    (question,) = asked
    assert question.startswith("Remove all kept prompts (2.0 KB)?")
    assert list((ready.home / "cache" / "embeddings").iterdir()) == []
    assert text(dialog, "kept_prompts") == "Kept prompts: 0 B"
    assert not button(dialog, "kept_clear").isEnabled()


def test_what_cannot_be_removed_is_told(
    dialog: ModelsDialog,
    ready: WindowParts,
    qtbot: QtBot,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def in_use(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "in use", str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", in_use)
    choose(dialog, 0)
    with qtbot.waitSignal(ready.kept.refused):
        button(dialog, "kept_remove").click()
    assert "cannot be removed (in use)" in text(dialog, "kept_message")
    assert len(rows(dialog)) == 2
    with qtbot.waitSignal(ready.kept.refused):
        button(dialog, "kept_clear").click()
    assert text(dialog, "kept_message").startswith("Some kept prompts cannot be removed")
    assert len(asked) == 2


def test_what_a_run_converts_is_listed_after_it(
    dialog: ModelsDialog, ready: WindowParts, converted: Path, qtbot: QtBot
):
    make_converted(converted, Precision.INT8, used_s=9000)
    with qtbot.waitSignal(ready.kept.refreshed):
        ready.engine.on_event(JobFinished(job_id="one", seconds=1.0, memory=MEMORY))
    assert rows(dialog)[0] == f"{KLEIN}, transformer in int8: 1.1 KB"
    assert len(rows(dialog)) == 3


# In the settings.


@pytest.fixture
def settings(ready: WindowParts, converted: Path, qtbot: QtBot) -> SettingsDialog:
    assert converted.is_dir()
    with qtbot.waitSignal(ready.kept.refreshed):
        made = SettingsDialog(ready.settings, kept=ready.kept)
    qtbot.addWidget(made)
    made.show()
    return made


def test_settings_say_whether_prompts_are_kept_and_how_large_they_are(
    settings: SettingsDialog, ready: WindowParts, qtbot: QtBot, asked: list[str]
):
    keep = child(settings, QCheckBox, "keep_prompts_check")
    assert keep.isChecked()
    assert child(settings, QLabel, "kept_prompts").text() == "Kept prompts: 2.0 KB"
    clear = child(settings, QPushButton, "kept_clear")
    with qtbot.waitSignal(ready.kept.refreshed):
        qtbot.mouseClick(clear, LEFT)
    assert len(asked) == 1
    assert list((ready.home / "cache" / "embeddings").iterdir()) == []
    assert not clear.isEnabled()
    qtbot.mouseClick(keep, LEFT)
    # With OK, like everything else in the dialog; clearing was done at once.
    assert ready.settings.settings.keep_embeddings
    buttons = child(settings, QDialogButtonBox, "settings_buttons")
    qtbot.mouseClick(buttons.button(QDialogButtonBox.StandardButton.Ok), LEFT)
    assert not ready.settings.settings.keep_embeddings
    ready.settings.flush()
    file = ready.home / "config" / "settings.json"
    assert not SettingsStore(file).load().keep_embeddings


def test_settings_tell_which_prompts_cannot_be_removed(
    settings: SettingsDialog,
    ready: WindowParts,
    qtbot: QtBot,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def in_use(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "in use", str(path), missing_ok)

    monkeypatch.setattr(Path, "unlink", in_use)
    with qtbot.waitSignal(ready.kept.refused):
        child(settings, QPushButton, "kept_clear").click()
    message = child(settings, QLabel, "kept_message")
    assert message.isVisible()
    assert message.text().startswith("Some kept prompts cannot be removed")
    assert len(asked) == 1


def test_defaults_of_the_settings_keep_prompts(settings: SettingsDialog, ready: WindowParts):
    keep = child(settings, QCheckBox, "keep_prompts_check")
    keep.setChecked(False)
    buttons = child(settings, QDialogButtonBox, "settings_buttons")
    buttons.button(QDialogButtonBox.StandardButton.RestoreDefaults).click()
    assert keep.isChecked()
