"""The dialogs: settings, models, log, about, error report."""

import logging
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QListView,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QTreeWidget,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app import __version__
from app.core.errors import ErrorInfo
from app.core.log import LogRing
from app.core.settings import Settings
from app.ui import theme
from app.ui.panels import models_dialog
from app.ui.panels.about_dialog import AboutDialog
from app.ui.panels.error_dialog import ErrorDialog
from app.ui.panels.log_view import LogView
from app.ui.panels.models_dialog import ModelsDialog
from app.ui.panels.settings_dialog import SettingsDialog
from tests.fakes.model_folder import SMALL, make_folder
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

LEFT = Qt.MouseButton.LeftButton

# Settings.


@pytest.fixture
def settings_dialog(parts: WindowParts, qtbot: QtBot) -> SettingsDialog:
    made = SettingsDialog(parts.settings)
    qtbot.addWidget(made)
    made.show()
    return made


def settings_button(dialog: SettingsDialog, which: QDialogButtonBox.StandardButton) -> QPushButton:
    return child(dialog, QDialogButtonBox, "settings_buttons").button(which)


def choose(dialog: QWidget, name: str, value: str) -> None:
    combo = child(dialog, QComboBox, name)
    combo.setCurrentIndex(combo.findData(value))


def test_ok_takes_everything_over(settings_dialog: SettingsDialog, parts: WindowParts):
    child(settings_dialog, QLineEdit, "pictures_folder_line").setText("/pictures")
    child(settings_dialog, QLineEdit, "name_template_line").setText("{model}-{seed}")
    choose(settings_dialog, "theme_combo", "dark")
    choose(settings_dialog, "device_combo", "cpu")
    for name in ("preview_check", "metadata_check", "notify_check"):
        child(settings_dialog, QCheckBox, name).setChecked(False)
    settings_button(settings_dialog, QDialogButtonBox.StandardButton.Ok).click()
    assert parts.settings.settings == Settings(
        pictures_folder="/pictures",
        name_template="{model}-{seed}",
        theme="dark",
        device="cpu",
        preview=False,
        metadata=False,
        notify_when_done=False,
    )


def test_folder_that_is_no_full_path_is_refused(
    settings_dialog: SettingsDialog, parts: WindowParts
):
    child(settings_dialog, QLineEdit, "pictures_folder_line").setText("pictures")
    settings_button(settings_dialog, QDialogButtonBox.StandardButton.Ok).click()
    assert settings_dialog.isVisible()
    assert "no full path" in child(settings_dialog, QLabel, "pictures_folder_message").text()
    assert parts.settings.settings == Settings()


def test_other_device_says_from_when_on(settings_dialog: SettingsDialog):
    note = child(settings_dialog, QLabel, "device_message")
    choose(settings_dialog, "device_combo", "cpu")
    assert "after the running job" in note.text()
    choose(settings_dialog, "device_combo", "auto")
    assert note.text() == ""


def test_cancel_forgets_everything(settings_dialog: SettingsDialog, parts: WindowParts):
    choose(settings_dialog, "theme_combo", "dark")
    settings_button(settings_dialog, QDialogButtonBox.StandardButton.Cancel).click()
    assert parts.settings.settings == Settings()


def test_name_template_shows_an_example_and_what_is_wrong(settings_dialog: SettingsDialog):
    line = child(settings_dialog, QLineEdit, "name_template_line")
    message = child(settings_dialog, QLabel, "name_template_message")
    ok = settings_button(settings_dialog, QDialogButtonBox.StandardButton.Ok)
    line.setText("{model} {seed}")
    assert message.text() == "For example: klein-4b 1234567.png"
    line.setText("{sed}")
    assert "did you mean {seed}?" in message.text()
    assert not ok.isEnabled()
    line.setText("{seed}")
    assert ok.isEnabled()


def test_defaults_keep_the_users_model_folders(parts: WindowParts, qtbot: QtBot):
    parts.settings.set_settings(Settings(model_folders=("/m",), theme="dark", device="xpu:7"))
    dialog = SettingsDialog(parts.settings)
    qtbot.addWidget(dialog)
    assert child(dialog, QComboBox, "device_combo").currentData() == "xpu:7"
    settings_button(dialog, QDialogButtonBox.StandardButton.RestoreDefaults).click()
    dialog.accept()
    assert parts.settings.settings == Settings(model_folders=("/m",))


def test_folder_can_be_chosen(
    settings_dialog: SettingsDialog, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        SettingsDialog, "ask_folder", staticmethod(lambda _parent, _start: Path("/chosen"))
    )
    qtbot.mouseClick(child(settings_dialog, QToolButton, "pictures_folder_button"), LEFT)
    assert child(settings_dialog, QLineEdit, "pictures_folder_line").text() == str(Path("/chosen"))


def test_settings_reach_the_file(parts: WindowParts, qtbot: QtBot):
    path = parts.home / "config" / "settings.json"
    parts.settings.update(theme="dark")
    qtbot.waitUntil(path.exists)
    assert '"theme": "dark"' in path.read_text("utf-8")


def test_unwritable_settings_are_told(parts: WindowParts, qtbot: QtBot, expect_log):
    expect_log("state cannot be saved")
    (parts.home / "config").write_text("a file where a folder should be")
    with qtbot.waitSignal(parts.settings.failed) as failed:
        parts.settings.update(theme="dark")
    assert failed.args is not None
    assert "cannot be saved" in failed.args[0]


# Models.


@pytest.fixture
def models(ready: WindowParts, qtbot: QtBot) -> ModelsDialog:
    made = ModelsDialog(ready.catalog)
    qtbot.addWidget(made)
    made.show()
    return made


def select(dialog: ModelsDialog, row: int) -> None:
    view = child(dialog, QListView, "models_list")
    view.setCurrentIndex(view.model().index(row, 0))


def test_model_that_is_not_installed_leads_to_its_page(
    models: ModelsDialog, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    monkeypatch.setattr(models_dialog, "open_web_page", opened.append)
    select(models, 3)
    assert "Not installed" in child(models, QLabel, "models_detail").text()
    assert "Licence: " in child(models, QLabel, "models_detail").text()
    assert not child(models, QPushButton, "models_remove").isEnabled()
    qtbot.mouseClick(child(models, QPushButton, "models_web"), LEFT)
    assert opened == ["https://huggingface.co/black-forest-labs/FLUX.2-klein-9B"]


def test_demo_cannot_be_removed(models: ModelsDialog):
    select(models, 0)
    assert "choose one to see where it can be had" in child(models, QLabel, "models_detail").text()
    assert not child(models, QPushButton, "models_remove").isEnabled()
    assert not child(models, QPushButton, "models_web").isEnabled()


def test_folder_is_added_chosen_and_removed(
    models: ModelsDialog,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = make_folder(tmp_path / "mine", SMALL)
    monkeypatch.setattr(ModelsDialog, "ask_folder", staticmethod(lambda _parent: folder))
    with qtbot.waitSignal(ready.catalog.folder_added):
        qtbot.mouseClick(child(models, QPushButton, "models_add"), LEFT)
    assert child(models, QLabel, "models_detail").text() == str(folder)
    with qtbot.waitSignal(ready.catalog.refreshed):
        qtbot.mouseClick(child(models, QPushButton, "models_remove"), LEFT)
    assert ready.settings.settings.model_folders == ()


def test_folder_that_is_no_model_is_told(
    models: ModelsDialog,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ModelsDialog, "ask_folder", staticmethod(lambda _parent: tmp_path))
    with qtbot.waitSignal(ready.catalog.folder_refused):
        qtbot.mouseClick(child(models, QPushButton, "models_add"), LEFT)
    assert str(tmp_path) in child(models, QLabel, "models_message").text()


# Log.


def record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("app.test", level, __file__, 1, text, None, None)


def test_log_shows_what_was_and_what_comes(qtbot: QtBot):
    ring = LogRing()
    ring.emit(record(logging.INFO, "before"))
    view = LogView(ring)
    qtbot.addWidget(view)
    view.show()
    text = child(view, QPlainTextEdit, "log_text")
    assert "app.test: before" in text.toPlainText()
    ring.emit(record(logging.ERROR, "after"))
    qtbot.waitUntil(lambda: "after" in text.toPlainText())
    assert text.toPlainText().count("before") == 1


def test_log_is_filtered_by_level_and_text_and_copied(qtbot: QtBot):
    ring = LogRing()
    for level, words in (
        (logging.INFO, "fine"),
        (logging.ERROR, "broken"),
        (logging.ERROR, "other"),
    ):
        ring.emit(record(level, words))
    view = LogView(ring)
    qtbot.addWidget(view)
    view.show()
    choose_level = child(view, QComboBox, "log_level")
    choose_level.setCurrentIndex(choose_level.findData(logging.ERROR))
    child(view, QLineEdit, "log_search").setText("BROKEN")
    qtbot.mouseClick(child(view, QPushButton, "log_copy"), LEFT)
    copied = QGuiApplication.clipboard().text()
    assert "broken" in copied
    assert "fine" not in copied
    assert "other" not in copied


def test_log_takes_the_colours_of_another_theme(qtbot: QtBot, qapp: QApplication):
    ring = LogRing()
    ring.emit(record(logging.INFO, "fine"))
    theme.apply(qapp, "dark")
    view = LogView(ring)
    qtbot.addWidget(view)
    view.show()
    theme.apply(qapp, "light")
    text = child(view, QPlainTextEdit, "log_text")
    cursor = text.textCursor()
    cursor.movePosition(cursor.MoveOperation.Start)
    cursor.movePosition(cursor.MoveOperation.Right)
    qtbot.waitUntil(
        lambda: cursor.charFormat().foreground().color().name() == theme.colours().text.lower()
    )
    theme.apply(qapp, "system")


def test_closed_log_listens_no_more(qtbot: QtBot):
    ring = LogRing()
    view = LogView(ring)
    qtbot.addWidget(view)
    view.show()
    view.hide()
    ring.emit(record(logging.INFO, "while hidden"))
    view.show()
    assert child(view, QPlainTextEdit, "log_text").toPlainText().count("while hidden") == 1


# About, error report.


def test_about_names_version_libraries_and_licences(qtbot: QtBot):
    dialog = AboutDialog()
    qtbot.addWidget(dialog)
    assert __version__ in child(dialog, QLabel, "about_name").text()
    table = child(dialog, QTreeWidget, "about_components")
    rows = {
        item.text(0).lower(): (item.text(1), item.text(2))
        for item in (table.topLevelItem(row) for row in range(table.topLevelItemCount()))
        if item is not None
    }
    assert {"torch", "diffusers", "numpy", "pyside6_essentials"} <= {
        name.replace("-", "_") for name in rows
    }
    for name, (version, licence) in rows.items():
        assert version, name
        assert licence, name


def test_error_report_comes_once_and_can_be_copied(qtbot: QtBot):
    parent = QWidget()
    qtbot.addWidget(parent)
    error = ErrorInfo(code="unexpected", message="It broke.", traceback_text="Traceback …")
    ErrorDialog.report(error, "diagnostics", parent)
    ErrorDialog.report(error, "diagnostics", parent)
    [dialog] = parent.findChildren(ErrorDialog)
    assert not dialog.isModal()
    qtbot.mouseClick(child(dialog, QPushButton, "text_dialog_copy"), LEFT)
    text = QGuiApplication.clipboard().text()
    assert "It broke. [unexpected]" in text
    assert "Traceback …" in text
    assert text.endswith("diagnostics")
    dialog.close()
    qtbot.waitUntil(lambda: not parent.findChildren(ErrorDialog))
    ErrorDialog.report(error, "diagnostics", parent)
    [again] = parent.findChildren(ErrorDialog)
    again.close()


@pytest.mark.parametrize("text", ["{prompt}" * 40, "{bogus}/" + "x" * 300, "{date}"])
def test_what_is_said_of_a_file_name_is_never_cut_off(
    settings_dialog: SettingsDialog, qtbot: QtBot, text: str
):
    child(settings_dialog, QLineEdit, "name_template_line").setText(text)
    message = child(settings_dialog, QLabel, "name_template_message")
    assert message.text()
    qtbot.waitUntil(lambda: message.height() >= message.heightForWidth(message.width()))
