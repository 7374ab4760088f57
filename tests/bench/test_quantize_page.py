"""docs/quantization.md says what the result file says."""

import json
from typing import Any

import pytest

from bench.quantize_page import PAGE, page
from bench.report import RESULTS


def figures() -> dict[str, Any]:
    return json.loads((RESULTS / "quantize.json").read_text(encoding="utf-8"))["figures"]


def test_the_tables_are_those_of_the_result_file() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, figures()) == text, "run: python bench/quantize.py --page"


def test_other_figures_make_another_page() -> None:
    found = figures()
    found["demo"]["fp8"]["right"] = 0.5
    found["open"]["open_and_map_s"] = 1.5
    made = page(PAGE.read_text(encoding="utf-8"), found)
    assert "| fp8 | 50% of" in made
    assert "takes 1.50 s until" in made


def test_a_page_without_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        page("# Quantization\n", figures())


def test_every_precision_draws_as_well_as_it_must() -> None:
    demo = figures()["demo"]
    for name, target in (("fp8", 0.95), ("int8", 0.95), ("4 bits", 0.9)):
        rows = [row for row in demo if row.partition(",")[0] == name]
        assert rows
        assert all(demo[row]["right"] >= target for row in rows)
