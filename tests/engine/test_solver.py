"""What would fit: the answers fit, and a little more does not."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.plan import Rung, Verdict
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile
from app.core.request import MAX_REFERENCES, GenerationRequest
from app.engine.lines import Lines
from app.engine.solver import REFERENCE_PX, Solution, Solver
from tests.engine.planning_cases import PLENTY, asking, card, model, plan

STRICT = MemoryPolicy(strict=True)
REFERENCE = (REFERENCE_PX, REFERENCE_PX)


def solver(
    request: GenerationRequest,
    device: DeviceProfile,
    *,
    name: str = "klein-4b",
    limits: PresetLimits | None = None,
) -> Solver:
    return Solver(request, device, PLENTY, MemoryPolicy(), model(name), limits)


def found(solution: Solution | None) -> Solution:
    assert solution is not None
    return solution


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(1024, 1024), (1024, 768), (512, 2048), (128, 128)]),
    st.integers(1, 4),
    st.floats(2, 40),
    st.sampled_from(["demo", "klein-4b", "klein-9b"]),
)
def test_the_largest_size_fits_and_the_next_does_not(size, images, gib, name):
    request = asking(*size, images=images)
    largest = solver(request, card(gib), name=name).largest_size()
    if largest is None:
        tiny = replace(request, width_px=size[0] // 8, height_px=size[1] // 8)
        refused = plan(tiny, card(gib), policy=STRICT, coefficients=model(name))
        assert refused.verdict is Verdict.DOES_NOT_FIT
        return
    width_px, height_px = largest.request.width_px, largest.request.height_px
    assert largest.plan.verdict in {Verdict.FITS, Verdict.STREAMS}
    assert largest.plan.needed_bytes <= largest.plan.budget_bytes
    assert width_px % 16 == height_px % 16 == 0
    assert width_px / height_px == pytest.approx(
        size[0] / size[1], rel=8 / max(width_px, height_px) + 1e-9
    )
    shorter, longer = sorted(size)
    short_px = min(width_px, height_px) + 16
    long_px = round(short_px * longer / shorter / 16) * 16
    if long_px > 8192:
        return
    next_size = (short_px, long_px) if size[0] <= size[1] else (long_px, short_px)
    more = replace(request, width_px=next_size[0], height_px=next_size[1])
    refused = plan(more, card(gib), policy=STRICT, coefficients=model(name))
    assert refused.verdict is Verdict.DOES_NOT_FIT


def test_most_images_at_once_are_not_split_and_one_more_would_be() -> None:
    request, device = asking(), card(8)
    most = found(solver(request, device).most_images_at_once())
    count = most.request.images
    assert 1 < count < 64
    assert most.plan.batch == count
    assert Rung.SPLIT not in {change.rung for change in most.plan.changes}
    one_more = plan(replace(request, images=count + 1), device, policy=STRICT)
    assert one_more.batch <= count


def test_most_images_go_in_parts() -> None:
    most = found(solver(asking(), card(8)).most_images())
    assert most.request.images == 64
    assert most.plan.images == 64
    assert most.plan.batch < 64


def test_most_reference_images() -> None:
    device = card(6)
    most = found(solver(asking(), device).most_references())
    assert 0 < most.references < MAX_REFERENCES
    more = plan(asking(), device, policy=STRICT, references=(REFERENCE,) * (most.references + 1))
    assert more.verdict is Verdict.DOES_NOT_FIT
    assert found(solver(asking(), card(80)).most_references()).references == MAX_REFERENCES


def test_nothing_fits_on_a_card_that_is_too_small() -> None:
    answers = solver(asking(), card(1.5)).what_fits()
    assert answers.size is answers.images is answers.images_at_once is answers.references is None


def test_the_limits_of_a_preset_hold() -> None:
    limits = PresetLimits(max_side_px=1536, max_images=3)
    answers = solver(asking(1024, 512), card(80), limits=limits).what_fits()
    assert found(answers.size).request.width_px == 1536
    assert found(answers.images_at_once).request.images == 3
    assert found(answers.images).plan.batch <= 3


def test_answers_carry_memory_and_time() -> None:
    answers = solver(asking(), card(8)).what_fits()
    for solution in (answers.size, answers.images, answers.images_at_once, answers.references):
        assert found(solution).plan.peak_vram_bytes > 0
        assert found(solution).plan.seconds > 0


@pytest.mark.parametrize(("name", "gib"), [("klein-4b", 6), ("dev", 16), ("demo", 12)])
def test_all_answers_ask_the_coefficients_some_thousand_times(
    name: str, gib: int, asked_lines: list[Lines]
) -> None:
    """What keeps it under 50 ms: each question is some 10 microseconds."""
    solver(asking(), card(gib), name=name).what_fits()
    assert 100 < len(asked_lines) < 2500
