"""Rows of plans that were carried out, as figures."""

from dataclasses import replace

from bench.verdicts_parts.checks import Row
from bench.verdicts_parts.summary import FIXED, GROW, figures
from bench.verdicts_parts.truth import MORE, NAMES, USUAL

ROW = Row(
    kind="fits", case="one", model="klein-4b", growing=True, card_gb=8, cards=1, precision="bf16",
    mode="auto", verdict="fits", budget_bytes=1000, needed_bytes=900, ran_out={}, short={},
    peaks=dict.fromkeys(NAMES, 800), phases=(),
)  # fmt: skip
SPLINTERED = replace(ROW, case="other", growing=False, ran_out={MORE: "denoise"})


def test_a_plan_that_ran_out_is_counted_for_its_kind_of_segments_and_named():
    found = figures([ROW, SPLINTERED], cases=2, plans=2, counts={})

    assert found["segments"][GROW]["ran_out"] == {}
    assert found["segments"][FIXED]["ran_out"] == {MORE: 1}
    assert [one["case"] for one in found["unplanned"]] == ["other"]


def test_refusals_are_told_by_the_first_truth_that_is_over_the_card():
    rows = [
        replace(ROW, kind="refused"),
        replace(SPLINTERED, kind="refused"),
        replace(SPLINTERED, kind="refused", ran_out={MORE: "denoise", USUAL: "denoise"}),
    ]

    found = figures(rows, cases=3, plans=3, counts={})

    assert found["refused"] == {GROW: {"none": 1}, FIXED: {MORE: 1, USUAL: 1}}
    assert [one["case"] for one in found["refused_but_fits"]] == ["one"]
    assert found["unplanned"] == []
