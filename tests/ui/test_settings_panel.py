"""Model, size, steps, guidance, seed, images: each control moves the form, and follows it."""

from pathlib import Path

import pytest
from PySide6.QtCore import QLocale, QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
)
from pytestqt.qtbot import QtBot

from app.core.request import MAX_SEED, GenerationRequest
from app.ui.panels.settings_panel import SettingsPanel
from tests.fakes.model_folder import SMALL, make_folder
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(ready: WindowParts, qtbot: QtBot) -> SettingsPanel:
    made = SettingsPanel(ready.form, ready.catalog, ready.planning.plans)
    qtbot.addWidget(made)
    made.show()
    return made


def choose_model(panel: SettingsPanel, row: int) -> None:
    combo = child(panel, QComboBox, "model_combo")
    combo.setCurrentIndex(row)
    combo.activated.emit(row)


def type_into(qtbot: QtBot, line: QLineEdit, text: str) -> None:
    line.selectAll()
    qtbot.keyClicks(line, text)
    qtbot.keyClick(line, Qt.Key.Key_Return)


def test_choosing_a_model_changes_form_and_guidance(panel: SettingsPanel, ready: WindowParts):
    guidance = child(panel, QDoubleSpinBox, "guidance_spin")
    hint = child(panel, QLabel, "guidance_hint")
    assert not guidance.isVisible()
    assert "distilled" in hint.text()
    choose_model(panel, 2)
    assert ready.form.form.model == "dev"
    assert guidance.isVisible()
    assert not hint.isVisible()
    assert guidance.value() == 4.0
    assert child(panel, QSpinBox, "steps_spin").value() == 28


def test_demo_leads_to_real_models_and_others_do_not(panel: SettingsPanel):
    button = child(panel, QPushButton, "get_model_button")
    assert button.isVisible()
    choose_model(panel, 1)
    assert not button.isVisible()


def test_models_that_come_later_are_shown(parts: WindowParts, qtbot: QtBot, read_catalog):
    parts.form.set_model("dev")
    made = SettingsPanel(parts.form, parts.catalog, parts.planning.plans)
    qtbot.addWidget(made)
    combo = child(made, QComboBox, "model_combo")
    assert combo.currentIndex() == -1
    read_catalog(parts)
    assert combo.currentText() == "FLUX.2 dev"
    assert child(made, QSpinBox, "steps_spin").value() == 28


def test_typed_width_is_rounded_with_a_note(panel: SettingsPanel, ready: WindowParts, qtbot: QtBot):
    line, note = child(panel, QLineEdit, "width_line"), child(panel, QLabel, "size_message")
    type_into(qtbot, line, "1000")
    assert ready.form.values().width_px == 1008
    assert line.text() == "1008"
    assert note.isVisible()
    assert note.text() == "1000 px is no multiple of 16: now 1008 px."
    type_into(qtbot, line, "512")
    assert not note.isVisible()


def test_typed_height_of_zero_becomes_the_smallest(
    panel: SettingsPanel, ready: WindowParts, qtbot: QtBot
):
    line = child(panel, QLineEdit, "height_line")
    type_into(qtbot, line, "0")
    assert ready.form.values().height_px == 64
    assert line.text() == "64"
    assert "out of range" in child(panel, QLabel, "size_message").text()


def test_emptied_width_keeps_the_old_one(panel: SettingsPanel, ready: WindowParts, qtbot: QtBot):
    line = child(panel, QLineEdit, "width_line")
    line.clear()
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert line.text() == "128"
    assert ready.form.values().width_px == 128


def test_ratio_and_swap_change_the_size(panel: SettingsPanel, ready: WindowParts, qtbot: QtBot):
    choose_model(panel, 2)
    wide = child(panel, QToolButton, "ratio_16_9")
    qtbot.mouseClick(wide, LEFT)
    assert (ready.form.values().width_px, ready.form.values().height_px) == (1360, 768)
    assert wide.isChecked()
    assert not child(panel, QToolButton, "ratio_1_1").isChecked()
    qtbot.mouseClick(child(panel, QToolButton, "size_swap"), LEFT)
    assert (ready.form.values().width_px, ready.form.values().height_px) == (768, 1360)
    assert child(panel, QToolButton, "ratio_9_16").isChecked()


def test_clicking_the_ratio_in_use_keeps_it_checked(
    panel: SettingsPanel, ready: WindowParts, qtbot: QtBot
):
    square = child(panel, QToolButton, "ratio_1_1")
    assert square.isChecked()
    qtbot.mouseClick(square, LEFT)
    assert square.isChecked()


def test_numbers_reach_the_form(panel: SettingsPanel, ready: WindowParts):
    child(panel, QSpinBox, "steps_spin").setValue(12)
    child(panel, QSpinBox, "images_spin").setValue(3)
    choose_model(panel, 2)
    child(panel, QDoubleSpinBox, "guidance_spin").setValue(2.5)
    request = ready.form.request()
    assert (request.images, request.guidance, request.model) == (3, 2.5, "dev")
    choose_model(panel, 0)
    assert child(panel, QSpinBox, "steps_spin").value() == 12


@pytest.mark.parametrize(
    ("guidance", "shown"),
    [(4.0, "4.0"), (3.25, "3.25"), (3.125, "3.125"), (2.5, "2.5"), (0.0, "0.0"), (100.0, "100.0")],
)
def test_guidance_is_shown_with_the_decimals_it_has(
    panel: SettingsPanel, ready: WindowParts, guidance: float, shown: str
):
    ready.form.use(GenerationRequest(prompt="x", model="dev", guidance=guidance))
    spin = child(panel, QDoubleSpinBox, "guidance_spin")
    assert spin.text() == shown
    assert ready.form.request().guidance == guidance


def test_guidance_is_shown_as_the_language_writes_it(panel: SettingsPanel, ready: WindowParts):
    spin = child(panel, QDoubleSpinBox, "guidance_spin")
    spin.setLocale(QLocale(QLocale.Language.German))
    spin.setValue(3.25)
    assert spin.text() == "3,25"
    assert ready.form.request().guidance == 3.25


def test_seed_of_64_bits_survives_the_editor(
    panel: SettingsPanel, ready: WindowParts, qtbot: QtBot
):
    line = child(panel, QLineEdit, "seed_line")
    type_into(qtbot, line, str(MAX_SEED))
    assert ready.form.form.seed == MAX_SEED
    ready.form.set_seed(MAX_SEED - 1)
    assert line.text() == str(MAX_SEED - 1)


def test_seed_out_of_range_is_told_beside_the_field(
    panel: SettingsPanel, ready: WindowParts, qtbot: QtBot
):
    message = child(panel, QLabel, "seed_message")
    type_into(qtbot, child(panel, QLineEdit, "seed_line"), str(2**64))
    assert message.isVisible()
    assert str(MAX_SEED) in message.text()
    qtbot.mouseClick(child(panel, QToolButton, "seed_dice"), LEFT)
    assert not message.isVisible()
    assert child(panel, QLineEdit, "seed_line").text() == str(ready.form.form.seed)


def test_seed_out_of_range_stays_while_something_else_changes(
    panel: SettingsPanel, ready: WindowParts, qtbot: QtBot
):
    line = child(panel, QLineEdit, "seed_line")
    type_into(qtbot, line, str(2**64))
    ready.form.set_prompt("a ring")
    assert line.text() == str(2**64)


def test_word_about_the_models_goes_when_they_are_read_again(
    panel: SettingsPanel, ready: WindowParts, read_catalog
):
    panel.set_model_problem("Not yet.")
    read_catalog(ready)
    assert child(panel, QLabel, "model_message").text() == ""


def test_lock_keeps_the_seed(panel: SettingsPanel, ready: WindowParts, qtbot: QtBot):
    ready.form.set_prompt("a ring")
    ready.form.set_seed(77)
    lock = child(panel, QToolButton, "seed_lock")
    qtbot.mouseClick(lock, LEFT)
    assert ready.form.form.seed_locked
    assert lock.accessibleName() == "Seed is kept"
    request = ready.form.take_request()
    assert request is not None
    assert request.seed == 77


def test_added_folder_is_chosen(
    panel: SettingsPanel,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = make_folder(tmp_path / "mine", SMALL)
    monkeypatch.setattr(SettingsPanel, "ask_folder", staticmethod(lambda _parent: folder))
    with qtbot.waitSignal(ready.catalog.folder_added):
        qtbot.mouseClick(child(panel, QToolButton, "add_model_folder_button"), LEFT)
    assert ready.form.form.model == str(folder)
    assert "mine" in child(panel, QComboBox, "model_combo").currentText()


def test_refused_folder_is_told_below_the_chooser(
    panel: SettingsPanel,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(SettingsPanel, "ask_folder", staticmethod(lambda _parent: tmp_path))
    with qtbot.waitSignal(ready.catalog.folder_refused):
        panel.add_model_folder()
    message = child(panel, QLabel, "model_message")
    assert message.isVisible()
    assert str(tmp_path) in message.text()
    assert ready.form.form.model == "demo"


def test_folder_dialog_cancelled_changes_nothing(
    panel: SettingsPanel, ready: WindowParts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(SettingsPanel, "ask_folder", staticmethod(lambda _parent: None))
    panel.add_model_folder()
    assert ready.settings.settings.model_folders == ()


def test_wheel_over_a_number_without_focus_changes_nothing(panel: SettingsPanel, qtbot: QtBot):
    steps = child(panel, QSpinBox, "steps_spin")
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    before = steps.value()
    steps.wheelEvent(event)
    assert steps.value() == before
    assert not event.isAccepted()


def test_why_a_model_cannot_be_used_goes_away_with_the_choice(
    panel: SettingsPanel, ready: WindowParts
):
    message = child(panel, QLabel, "model_message")
    ready.form.set_model("klein-9b")
    assert ready.form.form.model == "klein-9b"
    missing = ready.catalog.row(3).model
    ready.form.set_model(missing)
    assert "Not installed" in message.text()
    ready.form.set_model("demo")
    assert not message.isVisible()
