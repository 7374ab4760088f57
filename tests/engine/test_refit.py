"""Weights placed anew in mid-run: within the budget, and nothing else of the plan changes."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.core.jobs import Phase
from app.core.plan import GenerationPlan, Placement, Rung, Verdict
from app.core.policy import Budget, MemoryMode, MemoryPolicy
from app.core.units import GIB
from app.engine.planner import plan_generation
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.planning.problem import PlanProblem, pose
from app.engine.refit import lightest, needed_bytes, refitted, with_budget
from tests.engine.planning_cases import PLENTY, asking, card, cpu, model

ENCODING = (Phase.ENCODE, Phase.DENOISE, Phase.DECODE)
DENOISING = ENCODING[1:]
DECODING = ENCODING[2:]


def posed(gib: float, *, images: int = 1, **policy: Any) -> tuple[PlanProblem, GenerationPlan]:
    request, device = asking(images=images), card(gib)
    wanted = MemoryPolicy(**policy)
    problem = pose(request, device, PLENTY, wanted, model())
    return problem, plan_generation(request, device, PLENTY, wanted, model())


def budget(
    headroom_gib: float = 0.0,
    *,
    limit_gib: float | None = None,
    mode: MemoryMode = MemoryMode.AUTO,
) -> Budget:
    return Budget(
        headroom_bytes=round(headroom_gib * GIB),
        limit_bytes=None if limit_gib is None else round(limit_gib * GIB),
        mode=mode,
    )


def refit(
    problem: PlanProblem,
    plan: GenerationPlan,
    wanted: Budget,
    phases: tuple[Phase, ...] = DENOISING,
    *,
    free_gib: float | None = None,
) -> tuple[PlanProblem, GenerationPlan]:
    free = problem.device.free_bytes if free_gib is None else round(free_gib * GIB)
    changed = with_budget(problem, wanted, free)
    return changed, refitted(changed, plan, phases)


def picture(plan: GenerationPlan) -> tuple[object, ...]:
    """What decides about the picture, and in which parts it is made."""
    return (
        plan.width_px,
        plan.height_px,
        plan.images,
        plan.batch,
        plan.decode_batch,
        plan.tile_px,
        plan.decode_on_cpu,
        [one.precision for one in plan.components],
    )


BUDGETS = st.builds(
    budget,
    st.floats(0, 30),
    limit_gib=st.one_of(st.none(), st.floats(0.5, 40)),
    mode=st.sampled_from(MemoryMode),
)


@settings(max_examples=40, deadline=None)
@given(
    gib=st.sampled_from([6.0, 8.0, 12.0, 24.0, 48.0]),
    images=st.integers(1, 5),
    changes=st.lists(
        st.tuples(BUDGETS, st.floats(1, 48), st.sampled_from([ENCODING, DENOISING, DECODING])),
        min_size=1,
        max_size=4,
    ),
)
def test_only_weights_move_and_they_keep_to_the_budget_where_that_can_be(
    gib: float, images: int, changes: list[tuple[Budget, float, tuple[Phase, ...]]]
) -> None:
    problem, plan = posed(gib, images=images)
    assume(plan.verdict is not Verdict.DOES_NOT_FIT)
    made = picture(plan)
    for wanted, free_gib, phases in changes:
        problem, plan = refit(problem, plan, wanted, phases, free_gib=min(gib, free_gib))
        assert picture(plan) == made
        assert plan.budget_bytes == problem.budget_bytes
        smallest = lightest(problem, plan, phases)
        assert needed_bytes(smallest, phases) <= needed_bytes(plan, phases)
        if needed_bytes(smallest, phases) <= problem.budget_bytes:
            assert needed_bytes(plan, phases) <= problem.budget_bytes
        again = refitted(problem, plan, phases)
        assert again == plan, "what was placed for a budget stays for it"


def test_as_much_as_before_moves_nothing() -> None:
    for gib in (6.0, 8.0, 12.0, 24.0, 48.0):
        problem, plan = posed(gib)
        _, same = refit(problem, plan, Budget.of(problem.policy), ENCODING)
        assert same.components == plan.components
        assert same.phases == plan.phases


def test_less_and_then_as_much_again() -> None:
    problem, plan = posed(24.0)
    assert plan.verdict is Verdict.FITS
    problem, less = refit(problem, plan, budget(19.0))
    assert less.verdict is Verdict.STREAMS
    assert less.component(TRANSFORMER).placement is Placement.STREAMED
    assert any(one.rung is Rung.STREAM for one in less.changes)
    assert "streaming" in less.reasons[0]
    _, again = refit(problem, less, budget())
    assert again.component(TRANSFORMER) == plan.component(TRANSFORMER)
    assert again.phase(Phase.DENOISE).seconds < less.phase(Phase.DENOISE).seconds
    assert again.verdict is Verdict.FITS


def test_what_no_phase_needs_any_more_leaves_first_and_does_not_come_back() -> None:
    problem, plan = posed(24.0)
    assert plan.component(TEXT_ENCODER).placement is Placement.RESIDENT
    enough = needed_bytes(plan, DENOISING) - GIB
    problem, less = refit(problem, plan, budget(limit_gib=enough / GIB))
    assert less.component(TEXT_ENCODER).placement is Placement.TURNS
    assert less.component(TRANSFORMER).placement is Placement.RESIDENT
    _, again = refit(problem, less, budget())
    assert again.component(TEXT_ENCODER).placement is Placement.TURNS


def test_the_modes_are_budgets_of_the_same_kind() -> None:
    problem, plan = posed(24.0)
    least_problem, least = refit(problem, plan, budget(mode=MemoryMode.MINIMAL))
    assert needed_bytes(least, DENOISING) == needed_bytes(
        lightest(problem, plan, DENOISING), DENOISING
    )
    half_problem, half = refit(problem, plan, budget(limit_gib=14.0, mode=MemoryMode.BALANCED))
    transformer = half.component(TRANSFORMER)
    assert 2 * (transformer.device_bytes - transformer.slots_bytes) <= half_problem.budget_bytes
    assert transformer.placement is Placement.STREAMED
    _, back = refit(least_problem, least, budget())
    assert back.component(TRANSFORMER).streamed_blocks == ()


def test_everything_or_nothing_is_as_much_as_goes_once_a_run_has_begun() -> None:
    problem, plan = posed(8.0)
    assert plan.verdict is Verdict.STREAMS
    changed, same = refit(problem, plan, budget(0.5, mode=MemoryMode.RESIDENT))
    assert changed.policy.mode is MemoryMode.AUTO
    assert same.components == plan.components


@pytest.mark.parametrize("phases", [ENCODING, DENOISING, DECODING, ()])
def test_a_budget_of_nothing_is_met_as_far_as_it_goes(phases: tuple[Phase, ...]) -> None:
    problem, plan = posed(24.0)
    _, least = refit(problem, plan, budget(30.0), phases)
    assert least.budget_bytes == 0
    assert needed_bytes(least, phases) == needed_bytes(lightest(problem, plan, phases), phases)
    assert all(one.placement is not Placement.RESIDENT for one in least.components)


def test_a_decode_that_cannot_do_with_less_does_not_slow_the_steps_down() -> None:
    request, device = asking(2048, 2048), card(48.0)
    problem = pose(request, device, PLENTY, MemoryPolicy(), model())
    plan = plan_generation(request, device, PLENTY, MemoryPolicy(), model())
    limit = needed_bytes(lightest(problem, plan, DECODING), DECODING) - 1
    _, less = refit(problem, plan, budget(limit_gib=limit / GIB))
    assert needed_bytes(less, DECODING) > limit
    assert needed_bytes(less, (Phase.DENOISE,)) <= limit
    streamed = len(less.component(TRANSFORMER).streamed_blocks)
    assert 0 < streamed < len(problem.blocks[TRANSFORMER]), "only what denoising itself has to"


def test_on_the_cpu_nothing_moves() -> None:
    request, device = asking(), cpu(32.0)
    problem = pose(request, device, PLENTY, MemoryPolicy(), model())
    plan = plan_generation(request, device, PLENTY, MemoryPolicy(), model())
    _, same = refit(problem, plan, budget(limit_gib=1.0, mode=MemoryMode.MINIMAL), ENCODING)
    assert same.components == plan.components
