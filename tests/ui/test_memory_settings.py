"""The memory section of the form: one click or key for each control."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.core.events import PlanMade
from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.units import GIB, MIB
from app.ui.models.memory_choices import fidelity
from app.ui.models.policy_file import PolicyState
from app.ui.panels.form_panel import FormPanel
from app.ui.panels.memory_settings import MemorySettings
from app.ui.panels.settings_panel import SettingsPanel
from tests.fakes.described import machine
from tests.fakes.plans import plan
from tests.fakes.window import WindowParts
from tests.ui.find import find


class Section:
    """The section, open, on the models below a window."""

    def __init__(self, qtbot: QtBot, parts: WindowParts) -> None:
        self.qtbot, self.parts = qtbot, parts
        planning = self.planning = parts.planning
        self.policy = planning.policy
        self.panel = MemorySettings(planning.policy, planning.plans, planning.presets)
        qtbot.addWidget(self.panel)
        self.panel.resize(320, 400)
        self.panel.show()
        self.panel.set_open(is_open=True)
        self.slider = find(self.panel, QSlider, "headroom_slider")

    def text(self, name: str) -> str:
        return find(self.panel, QLabel, name).text()

    def choice(self, name: str) -> str:
        return find(self.panel, QComboBox, name).currentText()

    def choices(self, name: str) -> list[str]:
        combo = find(self.panel, QComboBox, name)
        return [combo.itemText(index) for index in range(combo.count())]

    def press_down(self, name: str, times: int = 1) -> None:
        combo = find(self.panel, QComboBox, name)
        for _ in range(times):
            self.qtbot.keyClick(combo, Qt.Key.Key_Down)

    def plan_on(self, vram_gib: float | None) -> None:
        self.parts.form.set_model("klein-base-4b")
        self.planning.on_sample(machine(vram_gib))
        self.qtbot.waitUntil(lambda: self.planning.plans.state.plan is not None)

    def box(self, name: str) -> QCheckBox:
        return find(self.panel, QCheckBox, name)


def wheel(widget: QWidget) -> QWheelEvent:
    middle = QPointF(widget.rect().center())
    return QWheelEvent(
        middle,
        QPointF(widget.mapToGlobal(middle.toPoint())),
        QPoint(),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )


@pytest.fixture
def section(qtbot: QtBot, ready: WindowParts) -> Section:
    return Section(qtbot, ready)


def test_it_opens_with_a_click_and_tells_what_is_inside_while_folded(section: Section):
    head = find(section.panel, QToolButton, "memory_settings_head")
    assert section.slider.isVisible()
    section.qtbot.mouseClick(head, Qt.MouseButton.LeftButton)
    assert not section.slider.isVisible()
    section.policy.set_headroom(round(1.5 * GIB))
    section.policy.set_strict(strict=True)
    assert section.text("memory_settings_summary") == "leaves 1.5 GB · strict"
    assert "1.5 GB" in head.accessibleDescription()


def test_the_slider_leaves_memory_in_quarters_of_a_gb(section: Section):
    section.policy.set_headroom(0)
    section.slider.setFocus()
    section.qtbot.keyClick(section.slider, Qt.Key.Key_Right)
    assert section.policy.policy.headroom_bytes == GIB // 4
    assert section.text("headroom_value") == "0.25 GB"
    section.qtbot.keyClick(section.slider, Qt.Key.Key_PageUp)
    assert section.policy.policy.headroom_bytes == GIB + GIB // 4


def test_a_value_between_the_steps_is_shown_as_it_is_and_kept(section: Section):
    section.policy.set_headroom(1300 * MIB)
    assert section.text("headroom_value") == "1.27 GB"
    assert section.policy.policy.headroom_bytes == 1300 * MIB


def test_up_to_half_the_gpu_can_be_left_to_others(section: Section):
    section.parts.form.set_model("klein-base-4b")
    section.planning.on_sample(machine(24.0))
    section.qtbot.waitUntil(lambda: section.slider.maximum() == 48)


def test_mode_strict_and_enlarging_are_chosen(section: Section):
    for mode, down in (
        (MemoryMode.RESIDENT, 1),
        (MemoryMode.BALANCED, 1),
        (MemoryMode.MINIMAL, 1),
    ):
        section.press_down("memory_mode", down)
        assert section.policy.policy.mode is mode
    section.qtbot.mouseClick(section.box("memory_upscale_back"), Qt.MouseButton.LeftButton)
    assert section.policy.policy.upscale_back
    section.box("memory_strict").click()
    assert section.policy.policy.strict


def test_precision_is_chosen_with_a_word_on_its_fidelity(section: Section):
    section.press_down("memory_precision", 2)
    precisions = section.policy.policy.precisions
    assert precisions == Precisions(transformer=Precision.FP8, text_encoder=Precision.FP8)
    assert section.text("precision_message") == "Pictures: very close"
    section.press_down("memory_precision", 2)
    assert section.policy.policy.precisions.transformer is Precision.NF4
    assert section.choice("memory_precision") == "4 bits"
    assert "4 bits" in find(section.panel, QToolButton, "memory_settings_head").toolTip()


def test_what_automatic_comes_to_has_its_fidelity_told_where_it_is_not_whole():
    def of(precision: Precision) -> str:
        components = (replace(plan().component("transformer"), precision=precision),)
        return fidelity(Precision.AUTO, plan(components=components))

    assert of(Precision.FP8) == "Pictures: very close"
    assert of(Precision.BF16) == ""
    assert fidelity(Precision.AUTO, None) == ""
    assert fidelity(Precision.BF16, None) == "Pictures: as the model was made"


def test_fp32_is_offered_on_the_cpu_and_where_it_was_chosen(section: Section):
    section.plan_on(24.0)
    assert "fp32" not in section.choices("memory_precision")
    section.policy.set_precision(Precision.FP32)
    assert section.choice("memory_precision") == "fp32"
    section.policy.set_precision(Precision.AUTO)
    section.plan_on(None)
    section.qtbot.waitUntil(lambda: "fp32" in section.choices("memory_precision"))


def test_automatic_says_what_it_comes_to(section: Section):
    section.plan_on(80.0)
    section.qtbot.waitUntil(lambda: section.choice("memory_precision") != "Automatic")
    assert section.choice("memory_precision") == "Automatic: bf16"
    assert section.choice("memory_mode") == "Automatic: everything stays"
    section.planning.on_sample(machine(6.0))
    section.qtbot.waitUntil(lambda: section.choice("memory_mode").startswith("Automatic: stream"))
    section.policy.set_mode(MemoryMode.MINIMAL)
    assert section.choice("memory_mode") == "As little as possible"
    # What automatic would come to is not known while something else is planned.
    assert section.choices("memory_mode")[0] == "Automatic"


def test_a_limit_is_typed_and_the_plan_keeps_to_it(section: Section):
    section.plan_on(24.0)
    find(section.panel, QToolButton, "memory_more_head").click()
    limit = find(section.panel, QDoubleSpinBox, "memory_limit")
    assert limit.text() == "No limit"
    assert limit.maximum() == 24.0
    limit.selectAll()
    section.qtbot.keyClicks(limit, "6.5")
    section.qtbot.keyClick(limit, Qt.Key.Key_Return)
    assert section.policy.policy.limit_bytes == round(6.5 * GIB)
    plans = section.planning.plans

    def keeps_to_it() -> bool:
        made = plans.state.plan
        return made is not None and made.budget_bytes == round(6.5 * GIB)

    section.qtbot.waitUntil(keeps_to_it)
    find(section.panel, QToolButton, "memory_more_head").click()
    assert section.text("memory_more_summary") == "at most 6.5 GB"
    limit.setValue(0)
    assert section.policy.policy.limit_bytes is None


def test_the_text_encoder_may_have_a_precision_of_its_own(section: Section):
    assert section.choice("memory_encoder_precision") == "As above"
    section.policy.set_precision(Precision.BF16)
    encoder = find(section.panel, QComboBox, "memory_encoder_precision")
    at = section.choices("memory_encoder_precision").index("4 bits")
    encoder.setCurrentIndex(at)
    encoder.activated.emit(at)
    assert section.policy.policy.precisions.text_encoder is Precision.NF4
    section.policy.set_precision(Precision.FP8)
    assert section.policy.policy.precisions == Precisions(
        transformer=Precision.FP8, text_encoder=Precision.NF4
    )
    encoder.activated.emit(0)
    assert section.policy.policy.precisions.text_encoder is Precision.FP8


def test_attention_and_compiling_are_chosen_under_more(section: Section):
    section.press_down("memory_attention", 2)
    assert section.policy.policy.attention is Attention.FLASH
    section.box("memory_compile").click()
    assert section.policy.policy.compile
    section.policy.set_state(PolicyState())
    assert section.choice("memory_attention") == "Automatic"
    assert not section.box("memory_compile").isChecked()


def test_automatic_attention_says_what_the_engine_took(section: Section):
    made = plan(attention=Attention.CUDNN)
    section.planning.on_event(PlanMade(job_id="a", plan=made))
    assert section.choice("memory_attention") == "Automatic: cuDNN (torch)"


def test_the_wheel_over_a_choice_only_scrolls(section: Section):
    combo = find(section.panel, QComboBox, "memory_mode")
    combo.clearFocus()
    event = wheel(combo)
    QApplication.sendEvent(combo, event)
    assert not event.isAccepted()
    assert section.policy.policy.mode is MemoryMode.AUTO


def test_what_never_gets_smaller_is_not_enlarged(section: Section):
    section.policy.set_upscale_back(upscale_back=True)
    section.policy.set_strict(strict=True)
    assert not section.box("memory_upscale_back").isEnabled()
    assert not section.box("memory_upscale_back").isChecked()
    # The choice itself stays for when strictness ends.
    section.policy.set_strict(strict=False)
    assert section.box("memory_upscale_back").isChecked()


def test_a_state_from_elsewhere_is_shown(section: Section):
    policy = MemoryPolicy(headroom_bytes=2 * GIB, mode=MemoryMode.RESIDENT, strict=True)
    section.policy.set_state(PolicyState(policy=policy))
    assert section.slider.value() == 8
    assert section.choice("memory_mode") == "Everything, or nothing runs"
    assert section.box("memory_strict").isChecked()


def test_what_would_fit_is_asked_once_there_is_a_plan(section: Section):
    button = find(section.panel, QPushButton, "what_would_fit")
    assert not button.isEnabled()
    section.parts.form.set_model("klein-base-4b")
    section.planning.on_sample(machine(12.0))
    section.qtbot.waitUntil(button.isEnabled)
    with section.qtbot.waitSignal(section.panel.fit_asked):
        section.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_every_job_is_given_the_choices_of_the_moment(ready: WindowParts):
    ready.form.set_prompt("a ring")
    ready.planning.policy.set_headroom(2 * GIB)
    ready.studio.generate()
    ready.planning.policy.set_headroom(GIB)
    ready.studio.generate()
    jobs = [job for job, _ in ready.control.submitted]
    assert [job.policy.headroom_bytes for job in jobs] == [2 * GIB, GIB]
    again = ready.engine.retry(jobs[0].id)
    assert again is not None
    assert ready.control.submitted[-1][0].policy == jobs[0].policy


def test_costs_stand_beside_size_and_images_when_there_are_any(qtbot: QtBot, ready: WindowParts):
    panel = SettingsPanel(ready.form, ready.catalog, ready.planning.plans)
    qtbot.addWidget(panel)
    panel.show()
    size, images = find(panel, QLabel, "size_cost"), find(panel, QLabel, "images_cost")
    assert not size.isVisible()
    ready.form.set_model("klein-base-4b")
    ready.planning.on_sample(machine(24.0))
    qtbot.waitUntil(lambda: ready.planning.plans.state.plan is not None)
    assert not size.isVisible()
    assert not images.isVisible()
    ready.form.set_size(2048, 2048)
    ready.form.set_images(2)
    qtbot.waitUntil(lambda: size.isVisible() and images.isVisible())
    assert size.text().startswith("+")
    assert " GB, +" in size.text()
    assert "the one the model was made for" in size.toolTip()
    ready.form.set_images(1)
    qtbot.waitUntil(lambda: not images.isVisible())


def test_the_whole_form_answers_what_would_fit_at_the_link(qtbot: QtBot, ready: WindowParts):
    form = FormPanel(ready.window_models())
    qtbot.addWidget(form)
    form.resize(340, 900)
    form.show()
    form.memory.set_open(is_open=True)
    ready.form.set_model("klein-base-4b")
    ready.planning.on_sample(machine(12.0))
    qtbot.waitUntil(form.memory.fit_button.isEnabled)
    with qtbot.waitSignal(ready.planning.fitting.found):
        form.memory.fit_button.click()
    popup = find(form, QFrame, "fit_popup")
    assert popup.isVisible()
    popup.close()


# Without a GPU.


def test_without_a_gpu_the_slider_leaves_ram_and_what_is_about_gpus_is_hidden(section: Section):
    section.plan_on(None)
    before = section.policy.policy
    assert section.text("headroom_value") == "2 GB"
    assert section.text("memory_settings_summary").endswith("leaves 2 GB")
    assert not find(section.panel, QComboBox, "memory_mode").isVisible()
    section.slider.setFocus()
    with section.qtbot.waitSignal(section.planning.plans.changed):
        section.qtbot.keyClick(section.slider, Qt.Key.Key_Right)
    chosen = before.ram_headroom_bytes + GIB // 4
    assert section.policy.policy == replace(before, ram_headroom_bytes=chosen)
    assert section.slider.maximum() == 64 // 8 * 4
    assert "RAM" in section.slider.toolTip()
    plans = section.planning.plans.state
    assert plans.plan is not None
    assert plans.inputs is not None
    # What is left to others is missing in the plan: the slider does something.
    assert plans.plan.budget_bytes == plans.inputs.device.free_bytes - chosen


def test_with_a_gpu_the_slider_is_about_the_gpu(section: Section):
    section.plan_on(12.0)
    assert find(section.panel, QComboBox, "memory_mode").isVisible()
    assert "GPU" in section.slider.toolTip()


@pytest.mark.parametrize("is_open", [False, True])
def test_nothing_of_the_form_is_cut_off_beside_its_scroll_bar(
    qtbot: QtBot, ready: WindowParts, is_open: bool
):
    panel = FormPanel(ready.window_models())
    qtbot.addWidget(panel)
    panel.memory.set_open(is_open=is_open)
    panel.show()
    panel.resize(1, 500)
    qtbot.waitUntil(lambda: panel.width() >= panel.minimumSizeHint().width())
    scroll = find(panel, QScrollArea, "form_scroll")
    form = find(panel, QWidget, "form")
    assert scroll.verticalScrollBar().isVisible()
    qtbot.waitUntil(lambda: form.width() <= scroll.viewport().width())
