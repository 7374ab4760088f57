from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.request import (
    MAX_REFERENCES,
    MAX_SEED,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SIZE_MULTIPLE_PX,
    GenerationRequest,
    rounded_size_px,
)

GOOD = GenerationRequest(prompt="a red circle")


def codes(request: GenerationRequest) -> list[tuple[str, str]]:
    return [(problem.field, problem.code) for problem in request.problems()]


def test_default_request_has_no_problems():
    assert GOOD.problems() == ()


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_empty_prompt_is_a_problem(prompt: str):
    assert codes(replace(GOOD, prompt=prompt)) == [("prompt", "request.prompt_empty")]


@pytest.mark.parametrize("field", ["prompt", "model"])
def test_half_characters_are_a_problem(field: str):
    assert codes(replace(GOOD, **{field: "a\udcff"})) == [(field, f"request.{field}_text")]


@pytest.mark.parametrize("field", ["width_px", "height_px"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, ["request.size"]),
        (-16, ["request.size"]),
        (48, ["request.size"]),
        (64, []),
        (8192, []),
        (8208, ["request.size"]),
        (10**12, ["request.size"]),
        (100, ["request.size_multiple"]),
        (7, ["request.size", "request.size_multiple"]),
    ],
)
def test_size_out_of_range_or_no_multiple_is_a_problem(field: str, value: int, expected: list[str]):
    request = replace(GOOD, **{field: value})
    assert codes(request) == [(field, code) for code in expected]


def test_size_problem_names_the_value_and_a_remedy():
    (problem,) = replace(GOOD, width_px=100).problems()
    assert problem.message == "The width is 100 px: it must be a multiple of 16, such as 96."


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        ("steps", [0, -1, 1001], [1, 1000]),
        ("guidance", [-0.1, 100.5, float("nan"), float("inf")], [0.0, 100.0]),
        ("seed", [-1, 2**64], [0, 2**64 - 1]),
        ("images", [0, 65], [1, 64]),
    ],
)
def test_number_out_of_range_is_a_problem(field: str, bad: list[float], good: list[float]):
    for value in bad:
        assert codes(replace(GOOD, **{field: value})) == [(field, f"request.{field}")]
    for value in good:
        assert codes(replace(GOOD, **{field: value})) == []


def test_all_problems_are_told_at_once():
    request = replace(GOOD, prompt="", steps=0, seed=-1, width_px=0)
    assert {problem.field for problem in request.problems()} == {
        "prompt",
        "steps",
        "seed",
        "width_px",
    }


def test_seed_of_counts_up_and_wraps():
    request = replace(GOOD, seed=MAX_SEED - 1)
    assert [request.seed_of(index) for index in range(4)] == [MAX_SEED - 1, MAX_SEED, 0, 1]


def test_request_is_frozen():
    with pytest.raises(FrozenInstanceError):
        GOOD.seed = 1  # pyright: ignore[reportAttributeAccessIssue]


@given(st.integers(-(2**40), 2**40))
def test_rounded_size_is_the_nearest_allowed_one(value_px: int):
    rounded = rounded_size_px(value_px)
    assert rounded % SIZE_MULTIPLE_PX == 0
    assert MIN_SIZE_PX <= rounded <= MAX_SIZE_PX
    if MIN_SIZE_PX <= value_px <= MAX_SIZE_PX:
        assert abs(rounded - value_px) <= SIZE_MULTIPLE_PX // 2


def test_rounded_size_breaks_ties_upward():
    assert rounded_size_px(104) == 112


def test_references_are_few_and_named_by_their_whole_path(tmp_path: Path):
    paths = tuple(str(tmp_path / f"{number}.png") for number in range(MAX_REFERENCES + 1))
    assert replace(GOOD, references=paths[:-1]).problems() == ()
    assert codes(replace(GOOD, references=paths)) == [("references", "request.references")]
    assert codes(replace(GOOD, references=("cat.png",))) == [
        ("references", "request.reference_path")
    ]
    assert codes(replace(GOOD, references=(f"{paths[0]}\udcff",))) == [
        ("references", "request.reference_text")
    ]
