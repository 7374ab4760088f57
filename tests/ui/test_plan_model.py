"""The plan that follows the form, the choices about memory and the machine."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from pytestqt.qtbot import QtBot

from app.core.events import (
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobFinished,
    PhaseFinished,
    PlanMade,
    QueueChanged,
)
from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase, MeasuredRun
from app.core.plan import Verdict
from app.core.policy import Precision
from app.core.units import GIB
from app.engine import kept_for_runs
from app.engine.kept_for_runs import UNCONDITIONAL_PROMPT
from app.engine.machine import calibration_key, installed_torch
from app.engine.planner import plan_generation
from app.engine.planning.at_hand import AtHand
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import kept_files
from app.engine.quantize.kept_ways import Way, WayRecord
from app.ui.models.memory_frame import Lane
from app.ui.models.plan_model import PlanModel
from app.ui.models.policy_file import PolicyState
from app.ui.models.remedies import fitting
from tests.fakes.converted import make_converted
from tests.fakes.described import machine
from tests.fakes.engine_memory import engine_memory
from tests.fakes.plans import plan
from tests.fakes.reports import report
from tests.fakes.window import WindowParts
from tests.ui.run_events import MEMORY

BASE = "klein-base-4b"


PROMPT_KEPT = "The prompt was drawn before and its embeddings are kept"


@pytest.fixture
def drawn(ready: WindowParts, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leaves on the disk what a run leaves of a prompt, whatever it ran on."""

    def key_of(_identity: str, prompt: str) -> str:
        return hashlib.sha256(prompt.encode()).hexdigest()

    def draw(prompt: str) -> None:
        folder = prompt_folder(ready.home / "cache" / "embeddings")
        for one in (prompt, UNCONDITIONAL_PROMPT):
            assert folder.write(key_of("", one), b"embeddings")

    monkeypatch.setattr(kept_for_runs, "prompt_key", key_of)
    return draw


class Planner:
    """The models below a window on a described machine."""

    def __init__(self, qtbot: QtBot, parts: WindowParts) -> None:
        self.qtbot = qtbot
        self.parts = parts
        self.plans: PlanModel = parts.planning.plans
        self.form = parts.form

    def has(self, sample, model: str = BASE) -> None:
        """This machine, and this model in the form, until there is a plan."""
        self.form.set_model(model)
        # Something was chosen for it before, so that no preset is applied meanwhile.
        self.parts.planning.policy.set_device("" if sample.device is None else sample.device.name)
        self.parts.planning.policy.set_state(PolicyState())
        self.parts.planning.on_sample(sample)
        self.wait()

    def wait(self) -> None:
        self.qtbot.waitUntil(lambda: self.plans.state.plan is not None)

    def change(self, act) -> None:
        """Do something, and wait for the plan it makes."""
        with self.qtbot.waitSignal(self.plans.changed):
            act()

    def says(self, words: str) -> None:
        """Wait until a reason of the plan has these words: it may be made twice on the way."""
        self.qtbot.waitUntil(lambda: self._has_words(words))

    def says_no_more(self, words: str) -> None:
        """Wait until no reason of the plan has these words."""
        self.qtbot.waitUntil(lambda: not self._has_words(words))

    def _has_words(self, words: str) -> bool:
        made = self.plans.state.plan
        return made is not None and words in " ".join(made.reasons)

    @property
    def plan(self):
        made = self.plans.state.plan
        assert made is not None
        return made


@pytest.fixture
def planner(qtbot: QtBot, ready: WindowParts) -> Planner:
    return Planner(qtbot, ready)


def test_before_the_first_sample_it_says_that_it_looks(planner: Planner):
    assert planner.plans.state.plan is None
    assert "Looking" in planner.plans.state.why


def test_a_sample_brings_the_plan_for_the_form(planner: Planner):
    planner.has(machine(12.0))
    assert planner.plan.total_bytes == 12 * GIB
    assert (planner.plan.width_px, planner.plan.images) == (1024, 1)
    assert planner.plan.verdict is Verdict.FITS
    assert planner.plans.state.lane is Lane.DEVICE


def test_each_choice_is_in_the_next_plan(planner: Planner):
    planner.has(machine(12.0))
    before = planner.plan
    planner.change(lambda: planner.form.set_size(1536, 1536))
    assert planner.plan.width_px == 1536
    assert planner.plan.seconds > before.seconds
    planner.change(lambda: planner.form.set_images(2))
    assert planner.plan.images == 2
    planner.change(lambda: planner.parts.planning.policy.set_headroom(3 * GIB))
    assert planner.plan.budget_bytes == before.budget_bytes - round(2.5 * GIB) == round(8.5 * GIB)


def test_prompt_and_seed_change_no_plan(planner: Planner, qtbot: QtBot):
    planner.has(machine(12.0))
    with qtbot.assertNotEmitted(planner.plans.changed, wait=200):
        planner.form.set_prompt("another one")
        planner.form.draw_seed()


def test_a_prompt_that_was_drawn_before_needs_no_text_encoder(
    planner: Planner, drawn: Callable[[str], None]
):
    planner.has(machine(12.0))
    before = planner.plan.seconds
    drawn("a known fox")
    planner.form.set_prompt("a known fox")
    planner.says(PROMPT_KEPT)
    assert planner.plan.seconds < before
    planner.form.set_prompt("a known fox?")
    planner.says_no_more(PROMPT_KEPT)
    planner.form.set_prompt("a known fox")
    planner.says(PROMPT_KEPT)
    planner.parts.settings.update(keep_embeddings=False)
    planner.says_no_more(PROMPT_KEPT)
    assert planner.plan.seconds == before


def test_what_a_run_left_is_in_the_plan_after_it_and_gone_when_it_is_removed(
    planner: Planner, drawn: Callable[[str], None]
):
    policy = planner.parts.planning.policy
    described = machine(12.0)
    planner.has(described)
    planner.change(lambda: policy.set_precision(Precision.FP8))
    planner.form.set_prompt("a new fox")
    planner.says("converted once")
    folder = planner.parts.home / "cache" / "converted"
    choice = planner.parts.catalog.choice(BASE)
    assert choice is not None
    assert choice.info is not None
    for component in ("transformer", "text_encoder"):
        make_converted(folder, Precision.FP8, model=choice.info.label, component=component)
    drawn("a new fox")
    # Embeddings depend on how fp8 was multiplied, which the run has found out.
    gpu = described.device
    assert gpu is not None
    products = planner.parts.home / "data" / "products.json"
    WayRecord(products, gpu.name, Precision.FP8, "bfloat16").note_chosen(Way.DEQUANTIZE)
    planner.parts.planning.on_event(
        JobFinished(job_id="a", seconds=1.0, memory=MEMORY, report=report())
    )
    planner.says("The weights in fp8 are kept on the disk: nothing is converted.")
    planner.says(PROMPT_KEPT)
    planner.parts.kept.clear_prompts()
    planner.says_no_more(PROMPT_KEPT)
    planner.parts.kept.remove(kept_files(folder))
    planner.says("converted once")


def test_what_would_fit_counts_what_is_kept(planner: Planner, drawn: Callable[[str], None]):
    planner.has(machine(12.0))
    drawn("a known fox")
    planner.form.set_prompt("a known fox")
    planner.says(PROMPT_KEPT)
    inputs = planner.plans.state.inputs
    assert inputs is not None
    (choice, *_others) = fitting(inputs, plan_generation).choices
    new = fitting(replace(inputs, at_hand=AtHand()), plan_generation).choices[0]
    assert choice.label == new.label
    assert choice.plan.seconds < new.plan.seconds


def test_memory_another_program_takes_is_followed_and_a_little_is_not(
    planner: Planner, qtbot: QtBot
):
    planner.has(machine(12.0))
    budget = planner.plan.budget_bytes
    with qtbot.assertNotEmitted(planner.plans.changed, wait=150):
        planner.parts.planning.on_sample(machine(12.0, others_gib=0.52))
    planner.change(lambda: planner.parts.planning.on_sample(machine(12.0, others_gib=4.5)))
    assert planner.plan.budget_bytes == pytest.approx(budget - 4 * GIB, abs=0.1 * GIB)


def test_what_our_own_engine_holds_counts_as_free(planner: Planner, qtbot: QtBot):
    planner.has(machine(12.0))
    with qtbot.assertNotEmitted(planner.plans.changed, wait=150):
        planner.parts.planning.on_sample(machine(12.0, ours_gib=8.0))


def test_where_the_driver_does_not_tell_the_engines_own_figure_counts(
    planner: Planner, qtbot: QtBot
):
    planner.has(machine(12.0))
    report = engine_memory(8 * GIB, allocated_bytes=7 * GIB, host_bytes=GIB)
    planner.parts.planning.on_event(
        PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1.0, memory=report)
    )
    with qtbot.assertNotEmitted(planner.plans.changed, wait=150):
        planner.parts.planning.on_sample(machine(12.0, others_gib=8.5))


def test_what_an_engine_held_that_was_replaced_is_not_ours(planner: Planner):
    planner.has(machine(12.0))
    report = engine_memory(8 * GIB, allocated_bytes=7 * GIB, host_bytes=GIB)
    planner.parts.planning.on_event(
        PhaseFinished(job_id="a", phase=Phase.LOAD, seconds=1.0, memory=report)
    )
    planner.parts.planning.on_event(EngineStateChanged(state=EngineState.RESTARTING, pid=2))
    planner.change(lambda: planner.parts.planning.on_sample(machine(12.0, others_gib=8.5)))
    assert planner.plan.budget_bytes == pytest.approx(3 * GIB, abs=0.1 * GIB)


def test_without_a_gpu_it_plans_for_the_cpu(planner: Planner):
    planner.has(machine(None), model="demo")
    assert planner.plans.state.lane is Lane.HOST
    assert planner.plan.total_bytes == 64 * GIB
    assert planner.plan.verdict is Verdict.FITS


def test_an_engine_on_the_cpu_is_planned_for_although_there_is_a_gpu(planner: Planner):
    planner.has(machine(12.0))
    ready = EngineReady(
        pid=1, device="cpu", device_name="CPU", torch_version="2.9", diffusers_version="0.42"
    )
    planner.change(lambda: planner.parts.planning.on_event(ready))
    assert planner.plans.state.lane is Lane.HOST


def test_a_size_costs_what_it_needs_more_than_the_models_own(planner: Planner):
    planner.has(machine(24.0))
    assert planner.plans.state.size_cost is None
    planner.change(lambda: planner.form.set_size(2048, 2048))
    dear = planner.plans.state.size_cost
    assert dear is not None
    assert dear.bytes > GIB
    assert dear.seconds > 1
    planner.change(lambda: planner.form.set_size(512, 512))
    cheap = planner.plans.state.size_cost
    assert cheap is not None
    assert cheap.bytes < 0
    assert cheap.seconds < 0


def test_costs_do_not_hide_behind_what_gives_way(planner: Planner):
    planner.has(machine(24.0))
    planner.change(lambda: planner.form.set_images(4))
    roomy = planner.plans.state.images_cost
    planner.change(lambda: planner.parts.planning.on_sample(machine(8.0)))
    tight = planner.plans.state.images_cost
    assert roomy is not None
    assert tight is not None
    assert tight.bytes == roomy.bytes > 0


def test_a_model_nobody_has_measured_says_so_until_the_engine_has(qtbot: QtBot, ready: WindowParts):
    answers: list[bool] = [False]
    plans = ready.planning.plans
    known = plans._coefficients_of
    plans._coefficients_of = lambda choice: known(choice) if answers[0] else None
    ready.form.set_model(BASE)
    ready.planning.on_sample(machine(12.0))
    qtbot.waitUntil(lambda: "first run" in plans.state.why)
    answers[0] = True
    ready.planning.on_event(PlanMade(job_id="a", plan=plan()))
    qtbot.waitUntil(lambda: plans.state.plan is not None)


def test_models_that_are_not_installed_are_planned_too(planner: Planner, qtbot: QtBot):
    planner.has(machine(12.0))
    choice = planner.parts.catalog.choice("klein-9b")
    assert choice is not None
    assert choice.folder is None
    qtbot.waitUntil(lambda: planner.plans.plan_of_model(choice) is not None)
    made = planner.plans.plan_of_model(choice)
    assert made is not None
    assert made.verdict is Verdict.STREAMS
    assert (made.width_px, made.images) == (1024, 1)


def test_a_form_with_mistakes_has_no_plan(planner: Planner, qtbot: QtBot):
    planner.has(machine(12.0))
    planner.form._form = planner.form._form.with_typed(
        type(planner.form._form.typed_here())(width_px=1000)
    )
    planner.change(planner.form.defaults_changed)
    assert planner.plans.state.plan is None
    assert "marked" in planner.plans.state.why


def test_a_stopped_model_plans_no_more(planner: Planner, qtbot: QtBot):
    planner.has(machine(12.0))
    planner.plans.stop()
    with qtbot.assertNotEmitted(planner.plans.changed, wait=150):
        planner.form.set_images(3)


def test_what_a_run_showed_is_in_the_plan_right_after_it(planner: Planner):
    planner.has(machine(12.0))
    planner.parts.engine.on_event(QueueChanged(jobs=()))
    inputs = planner.plans.state.inputs
    assert inputs is not None
    # The window knows of the run's end before it is kept, and of the queue's change after it.
    planner.parts.planning.on_event(
        JobFinished(job_id="a", seconds=1.0, memory=MEMORY, report=report())
    )
    key = calibration_key(inputs.device.name, driver="", torch_version=installed_torch())
    measured = MeasuredRun(phases={Phase.DENOISE: MeasuredPhase(seconds=9.0, peak_bytes=8 * GIB)})
    planner.parts.calibration.record_run(key, planner.plan, measured)
    planner.change(lambda: planner.parts.planning.on_event(QueueChanged(jobs=())))
    assert planner.plan.measured_runs == 1
