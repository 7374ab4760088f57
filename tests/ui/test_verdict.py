"""The chip, its popup and what is done there: real planner, described machines."""

import pytest
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QImage, QTextDocumentFragment
from PySide6.QtWidgets import QFrame, QLabel, QListView, QPushButton
from pytestqt.qtbot import QtBot

from app.core.plan import GenerationPlan, PlanChange, Rung, Verdict
from app.core.policy import MemoryMode, MemoryPolicy
from app.core.preset import PresetLimits
from app.core.units import GIB
from app.ui import theme
from app.ui.models.plan_model import PlanState
from app.ui.models.policy_file import PolicyState
from app.ui.panels.models_dialog import ModelsDialog
from app.ui.panels.verdict_row import VerdictRow
from app.ui.widgets.fit_popup import place_of
from app.ui.widgets.remedy_button import RemedyButton
from app.ui.widgets.verdict_chip import VerdictChip
from tests.fakes.described import machine
from tests.fakes.plans import plan
from tests.fakes.window import WindowParts
from tests.ui.find import find

BASE = "klein-base-4b"


class Stand:
    """A verdict row on a described machine."""

    def __init__(self, qtbot: QtBot, parts: WindowParts) -> None:
        self.qtbot, self.parts = qtbot, parts
        self.planning = parts.planning
        self.row = VerdictRow(self.planning.plans, self.planning.fitting)
        qtbot.addWidget(self.row)
        self.row.resize(320, 40)
        self.row.show()
        self.chip = find(self.row, VerdictChip, "verdict_chip")
        self.popup = find(self.row, QFrame, "fit_popup")

    def plan(self, sample, policy: MemoryPolicy | None = None, **limits) -> None:
        self.parts.form.set_model(BASE)
        self.planning.policy.set_device("Fake GPU")
        state = PolicyState(policy=policy or MemoryPolicy(), limits=PresetLimits(**limits))
        self.planning.policy.set_state(state)
        self.planning.on_sample(sample)
        self.qtbot.waitUntil(lambda: self.planning.plans.state.plan is not None)

    @property
    def made(self) -> GenerationPlan:
        found = self.planning.plans.state.plan
        assert found is not None
        return found

    def settle(self, verdict: Verdict) -> None:
        self.qtbot.waitUntil(lambda: self.chip.verdict is verdict)

    def open(self) -> None:
        with self.qtbot.waitSignal(self.planning.fitting.found):
            self.qtbot.mouseClick(self.chip, Qt.MouseButton.LeftButton)

    def button(self, name: str) -> QPushButton:
        return find(self.popup, QPushButton, name)

    def offered(self) -> set[str]:
        buttons = self.popup.findChildren(QPushButton)
        return {button.objectName() for button in buttons if button.objectName()}

    def take(self, name: str) -> None:
        button = self.button(name)
        assert button.isVisible()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        assert not self.popup.isVisible()


@pytest.fixture
def stand(qtbot: QtBot, ready: WindowParts) -> Stand:
    return Stand(qtbot, ready)


def icon_pixels(chip: VerdictChip) -> QImage:
    return chip.icon().pixmap(chip.iconSize()).toImage()


def test_each_verdict_has_words_and_a_shape_of_its_own(qtbot: QtBot, qapp):
    theme.apply(qapp, "dark")
    chip = VerdictChip()
    qtbot.addWidget(chip)
    chip.resize(400, 32)
    seen: list[tuple[str, set[tuple[int, int]]]] = []
    for verdict in Verdict:
        chip.set_state(PlanState(plan=plan(verdict)))
        image = icon_pixels(chip)
        shape = {
            (x, y)
            for x in range(image.width())
            for y in range(image.height())
            if image.pixelColor(x, y).alpha() > 128
        }
        seen.append((chip.line, shape))
        assert chip.line in chip.toolTip()
        assert chip.accessibleName().startswith("Does it fit? ")
    assert len({line for line, _ in seen}) == len(Verdict)
    for number, (_, shape) in enumerate(seen):
        for _, other in seen[number + 1 :]:
            assert len(shape ^ other) > 15


def test_without_a_plan_the_chip_says_why_and_cannot_be_clicked(qtbot: QtBot):
    chip = VerdictChip()
    qtbot.addWidget(chip)
    chip.set_state(PlanState(why="Choose a model."))
    assert not chip.isEnabled()
    assert chip.line == chip.accessibleName() == "Choose a model."


def test_the_chip_follows_the_form(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    assert "GB · about" in stand.chip.line
    stand.parts.form.set_size(3072, 3072)
    stand.settle(Verdict.STREAMS)


def test_text_without_room_is_cut_and_whole_in_the_tooltip(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    stand.row.resize(120, 40)
    assert stand.chip.text().endswith("…")
    assert stand.chip.line in stand.chip.toolTip()


def test_the_popup_gives_the_plans_reasons(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    stand.open()
    made = stand.made
    assert find(stand.popup, QLabel, "fit_summary").text().startswith(made.reasons[0])
    said = find(stand.popup, QLabel, "fit_reasons").text()
    read = QTextDocumentFragment.fromHtml(said).toPlainText()
    assert len(made.reasons) > 1
    assert all(reason in read for reason in made.reasons[1:])
    assert made.reasons[0] not in read
    assert find(stand.popup, QLabel, "fit_title").text() == "Fits"
    assert not find(stand.popup, QLabel, "fit_looking").isVisible()
    stand.popup.close()


def test_the_most_that_would_fit_is_taken_with_a_click(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    stand.open()
    assert {"fit_choice_size", "fit_choice_images"} <= stand.offered()
    assert "GB, about" in stand.button("fit_choice_size").accessibleName()
    stand.take("fit_choice_size")
    values = stand.parts.form.values()
    assert values.width_px == values.height_px > 1024
    stand.qtbot.waitUntil(lambda: stand.made.width_px == values.width_px)
    assert stand.made.verdict in (Verdict.FITS, Verdict.STREAMS)
    stand.open()
    stand.popup.close()


def test_what_is_asked_for_already_is_no_offer(stand: Stand):
    stand.plan(machine(24.0))
    stand.open()
    stand.take("fit_choice_size")
    values = stand.parts.form.values()
    stand.qtbot.waitUntil(lambda: stand.made.width_px == values.width_px)
    stand.open()
    assert "fit_choice_size" not in stand.offered()
    stand.popup.close()


def test_no_offer_is_cut_off(stand: Stand):
    stand.plan(machine(24.0))
    stand.open()
    stand.popup.adjustSize()
    buttons = stand.popup.findChildren(RemedyButton)
    assert any("Add reference images" in one.accessibleName() for one in buttons)
    stand.qtbot.waitUntil(
        lambda: all(
            label.width() >= label.sizeHint().width()
            for one in buttons
            for label in one.findChildren(QLabel)
        )
    )
    stand.popup.close()


def test_a_refusal_because_all_must_stay_offers_streaming(stand: Stand):
    stand.plan(machine(12.0), MemoryPolicy(mode=MemoryMode.RESIDENT, strict=True))
    stand.settle(Verdict.DOES_NOT_FIT)
    stand.open()
    stand.take("fit_remedy_streaming")
    assert stand.planning.policy.policy.mode is MemoryMode.AUTO
    stand.settle(Verdict.FITS)


def test_a_size_that_is_too_large_offers_the_largest_that_fits(stand: Stand):
    stand.plan(machine(6.0, others_gib=1.5), MemoryPolicy(strict=True))
    stand.parts.form.set_size(8192, 8192)
    stand.settle(Verdict.DOES_NOT_FIT)
    stand.open()
    stand.take("fit_remedy_size")
    assert 1024 < stand.parts.form.values().width_px < 8192
    stand.qtbot.waitUntil(lambda: stand.chip.verdict in (Verdict.FITS, Verdict.STREAMS))


def test_where_only_others_are_in_the_way_it_is_said_that_generate_waits(stand: Stand):
    words = "Generate waits for other programs to give memory back, 1 min at most."
    stand.plan(machine(12.0, others_gib=11.9))
    stand.settle(Verdict.DOES_NOT_FIT)
    assert words in stand.chip.toolTip()
    stand.open()
    assert find(stand.popup, QLabel, "fit_summary").text().endswith(words)
    stand.popup.close()


def test_what_the_gpu_could_never_give_is_not_waited_for(stand: Stand):
    stand.plan(machine(1.0))
    stand.settle(Verdict.DOES_NOT_FIT)
    assert "waits" not in stand.chip.toolTip()


def test_memory_kept_for_others_may_be_given_back(stand: Stand):
    stand.plan(machine(8.0), MemoryPolicy(headroom_bytes=7 * GIB, strict=True))
    stand.settle(Verdict.DOES_NOT_FIT)
    stand.open()
    stand.take("fit_remedy_headroom")
    assert stand.planning.policy.policy.headroom_bytes == GIB
    stand.qtbot.waitUntil(lambda: stand.chip.verdict in (Verdict.FITS, Verdict.STREAMS))


def test_limits_of_a_preset_can_be_lifted(stand: Stand):
    stand.plan(machine(12.0), MemoryPolicy(strict=True), max_side_px=512)
    stand.settle(Verdict.DOES_NOT_FIT)
    stand.open()
    stand.take("fit_remedy_preset_limits")
    assert stand.planning.policy.limits == PresetLimits()
    stand.settle(Verdict.FITS)


def test_nothing_is_offered_that_makes_nothing_better(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    stand.open()
    assert not [name for name in stand.offered() if name.startswith("fit_remedy")]
    stand.popup.close()


@pytest.mark.parametrize("height_px", [200, 450, 700])
@pytest.mark.parametrize("corner", [(27, 296), (27, 700), (1200, 296), (900, 40)])
def test_the_popup_is_on_the_screen_and_not_over_what_opened_it(
    height_px: int, corner: tuple[int, int]
):
    screen, size = QRect(0, 0, 1280, 800), QSize(400, height_px)
    anchor = QRect(QPoint(*corner), QSize(60, 30))
    placed = QRect(place_of(size, anchor, screen), size)
    assert screen.contains(placed)
    assert not placed.intersects(anchor)


def test_escape_closes_the_popup(stand: Stand):
    stand.plan(machine(12.0))
    stand.settle(Verdict.FITS)
    stand.open()
    stand.qtbot.keyClick(stand.popup, Qt.Key.Key_Escape)
    assert not stand.popup.isVisible()


def test_the_models_dialog_says_whether_a_model_that_is_not_here_would_fit(
    qtbot: QtBot, ready: WindowParts
):
    dialog = ModelsDialog(ready.catalog, plans=ready.planning.plans)
    qtbot.addWidget(dialog)
    dialog.show()
    said = find(dialog, QLabel, "models_fit")
    rows = find(dialog, QListView, "models_list")
    assert not said.isVisible()
    rows.setCurrentIndex(rows.model().index(ready.catalog.row_of("klein-9b"), 0))
    ready.planning.on_sample(machine(12.0))
    qtbot.waitUntil(said.isVisible)
    assert said.text().startswith("It would fit with streaming on this GPU: ")
    assert "at 1024 × 1024 px" in said.text()


def test_with_little_room_the_chip_takes_the_short_word(qtbot: QtBot):
    chip = VerdictChip()
    qtbot.addWidget(chip)
    chip.set_state(PlanState(plan=plan(Verdict.STREAMS)))
    metrics = chip.fontMetrics()
    chip.resize(metrics.horizontalAdvance(chip.line) + 60, 30)
    chip.show()
    assert chip.text() == chip.line
    chip.resize(metrics.horizontalAdvance(chip.line) - 10, 30)
    assert chip.text().startswith("Streams · ")
    assert "Fits with streaming" in chip.accessibleName()


def test_with_less_room_the_chip_leaves_memory_out_before_it_cuts_the_time_off(qtbot: QtBot):
    chip = VerdictChip()
    qtbot.addWidget(chip)
    smaller = PlanChange(rung=Rung.SMALLER, before="", after="", reason="")
    chip.set_state(
        PlanState(plan=plan(Verdict.SMALLER, width_px=1600, height_px=1600, changes=(smaller,)))
    )
    shortest = "Smaller · 1600 × 1600 · about 34 s"
    chip.resize(chip.fontMetrics().horizontalAdvance(shortest) + 50, 30)
    chip.show()
    assert chip.text() == shortest
    assert " GB" in chip.toolTip()
