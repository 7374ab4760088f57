"""A plan in words."""

from dataclasses import replace

import pytest

from app.core.jobs import Phase
from app.core.plan import PlanChange, Rung, Verdict
from app.core.units import GIB, MIB
from app.ui.models import plan_words
from app.ui.models.plan_inputs import Cost
from tests.fakes.plans import PHASES, gib, phase_plan, plan


@pytest.fixture(autouse=True)
def application(qapp):
    return qapp


def test_the_chip_says_verdict_need_and_time():
    assert plan_words.chip_text(plan()) == "Fits · 8.6 of 10.5 GB · about 34 s"
    assert plan_words.chip_text(plan(Verdict.STREAMS)).startswith("Fits with streaming · 8.6 of")


def test_what_gives_way_in_the_picture_is_named():
    smaller = PlanChange(rung=Rung.SMALLER, before="", after="", reason="")
    one = plan(Verdict.SMALLER, width_px=768, height_px=512, changes=(smaller,))
    assert plan_words.chip_text(one).startswith("Fits smaller · 768 × 512 · ")
    fewer = PlanChange(rung=Rung.FEWER, before="", after="", reason="")
    other = plan(Verdict.SMALLER, images=2, images_later=3, changes=(fewer,))
    assert plan_words.chip_text(other).startswith("Fits smaller · 2 of 5 images · ")


def test_what_does_not_fit_says_what_is_missing_and_rounds_it_up():
    missing = plan(Verdict.DOES_NOT_FIT, missing_bytes=gib(2.01))
    assert plan_words.chip_text(missing) == "Does not fit · 2.1 GB missing"
    assert plan_words.chip_text(plan(Verdict.DOES_NOT_FIT)) == "Does not fit"


def test_what_just_fits_does_not_read_as_if_it_did_not():
    # 8.63 of 8.64: up and down to a tenth they would be 8.7 of 8.6.
    phases = (phase_plan(PHASES[2].phase, 7.3, 1.03, 9.0),)
    tight = plan(phases=phases, budget_bytes=gib(8.64))
    assert "8.6 of 8.6 GB" in plan_words.chip_text(tight)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "under 1 s"),
        (9.4, "about 9 s"),
        (59.7, "about 1 min"),
        (94.0, "about 1 min 30 s"),
        (365.0, "about 6 min"),
        (7200.0, "about 2 h 00 min"),
    ],
)
def test_nobody_knows_a_long_time_to_the_second(seconds: float, said: str):
    assert plan_words.about(seconds) == said


def test_time_is_a_range_and_nothing_where_nothing_is_known():
    assert plan_words.time_words(plan()) == "Takes 27 s to 49 s."
    unknown = plan(phases=(phase_plan(PHASES[0].phase, 1, 1, 0.0),))
    assert plan_words.time_words(unknown) == ""


@pytest.mark.parametrize(
    ("low_s", "high_s", "said"),
    [
        (0.2, 0.8, "Takes under 1 s."),
        (0.2, 1.4, "Takes 0 s to 2 s."),
        (640.0, 670.0, "Takes about 11 min."),
    ],
)
def test_a_range_whose_ends_read_the_same_is_none(low_s: float, high_s: float, said: str):
    one = replace(phase_plan(Phase.DENOISE, 1, 1, 1.0), seconds_low=low_s, seconds_high=high_s)
    assert plan_words.time_words(plan(phases=(one,))) == said


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (Cost(bytes=gib(1.6), seconds=4.2), "+1.6 GB, +4 s"),
        (Cost(bytes=-gib(1.6), seconds=-75), "−1.6 GB, −1 min 20 s"),
        (Cost(bytes=60 * MIB, seconds=0.1), "+60 MB"),
        (Cost(bytes=3, seconds=0.2), ""),
    ],
)
def test_costs_are_signed_and_trifles_left_out(cost: Cost, said: str):
    assert plan_words.cost_text(cost) == said


def test_screen_readers_are_given_a_sentence():
    assert plan_words.spoken(plan()) == "Fits: needs 8.6 of 10.5 GB, takes about 34 s."
    refused = plan(Verdict.DOES_NOT_FIT, reasons=("It needs too much.",))
    assert plan_words.spoken(refused) == "It needs too much."


def test_a_model_is_said_to_fit_or_not_on_this_machine():
    said = plan_words.model_words(plan(Verdict.STREAMS), on_cpu=False)
    assert said.startswith("It would fit with streaming on this GPU: 8.6 of 10.5 GB at 1024 × 1024")
    missing = plan(Verdict.DOES_NOT_FIT, missing_bytes=GIB)
    words = plan_words.model_words(missing, on_cpu=True)
    assert words == "It would not fit on this computer's CPU now. 1.0 GB are missing."
