"""The next rung: always less, never a circle, and no other picture before it must be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.core.jobs import Phase
from app.core.plan import GenerationPlan, Placement, Rung, Verdict
from app.core.policy import MemoryPolicy
from app.core.units import GIB, MIB
from app.engine.planner import plan_generation
from app.engine.planning.problem import PlanProblem, pose
from app.engine.recovery import Failure, changing_plan, keeping_plan, relieved_plan
from app.engine.replan import refigured
from app.engine.shift_words import changes_between
from tests.engine.planning_cases import PLENTY, asking, card, cpu, model

WORKING = (Phase.ENCODE, Phase.DENOISE, Phase.DECODE)
MOST_RUNGS = 80
"""More than any ladder has: 25 blocks of the transformer for each of 7 sizes of parts are passed
by halves."""


def posed(
    *,
    vram_gib: float = 24.0,
    images: int = 1,
    side_px: int = 1024,
    strict: bool = False,
    on_cpu: bool = False,
) -> tuple[PlanProblem, GenerationPlan]:
    request = asking(side_px, side_px, images)
    device = cpu(vram_gib) if on_cpu else card(vram_gib)
    policy = MemoryPolicy(strict=strict)
    problem = pose(request, device, PLENTY, policy, model())
    return problem, plan_generation(request, device, PLENTY, policy, model())


def failure(
    phase: Phase, *, tries: int = 1, room_bytes: int | None = None, images_done: int = 0
) -> Failure:
    return Failure(phase=phase, room_bytes=room_bytes, tries=tries, images_done=images_done)


CASES = st.fixed_dictionaries(
    {
        "vram_gib": st.sampled_from([8.0, 12.0, 24.0, 48.0]),
        "images": st.integers(1, 9),
        "side_px": st.sampled_from([512, 1024, 1536]),
        "on_cpu": st.booleans(),
    }
)


def needs(plan: GenerationPlan, phase: Phase) -> tuple[int, int]:
    """Of a phase; then what stays for the whole run, which loading brings before it is at its peak.

    Previews are fitted with the autoencoder on the device, whether it stays there or not.
    """
    stays = [one for one in plan.components if one.placement is Placement.RESIDENT]
    return plan.phase(phase).needed_bytes, sum(one.device_bytes for one in stays)


@settings(max_examples=25, deadline=None)
@given(case=CASES, phase=st.sampled_from(list(Phase)), data=st.data())
def test_rungs_come_to_an_end_and_each_needs_less(
    case: dict[str, Any], phase: Phase, data: st.DataObject
):
    problem, plan = posed(**case)
    assume(plan.verdict is not Verdict.DOES_NOT_FIT)
    request = problem.request
    for tries in range(1, MOST_RUNGS):
        room = data.draw(st.one_of(st.none(), st.integers(0, 48 * GIB))) if tries < 4 else None
        found = keeping_plan(problem, plan, failure(phase, tries=tries, room_bytes=room))
        if found is None:
            break
        assert (found.width_px, found.height_px, found.images) == (
            plan.width_px,
            plan.height_px,
            plan.images,
        )
        assert needs(found, phase) < needs(plan, phase)
        assert changes_between(plan, found, "why")
        plan = found
    else:
        pytest.fail("the ladder has no end")
    assert (plan.width_px, plan.images) == (request.width_px, request.images)


def test_a_planned_way_keeps_its_figures():
    for gib in (8.0, 12.0, 16.0, 24.0):
        problem, plan = posed(vram_gib=gib, images=4)
        same = refigured(problem, plan)
        for phase in Phase:
            one, other = plan.phase(phase), same.phase(phase)
            assert (one.weights_bytes, one.working_bytes) == (
                other.weights_bytes,
                other.working_bytes,
            )
        assert same.components == plan.components


def test_others_leave_first_then_blocks_then_the_batch_is_split():
    problem, plan = posed(vram_gib=48.0, images=4)
    assert all(one.placement is Placement.RESIDENT for one in plan.components)
    first = keeping_plan(problem, plan, failure(Phase.DENOISE))
    assert first is not None
    assert first.component("text_encoder").placement is Placement.TURNS
    assert first.component("transformer").placement is Placement.RESIDENT
    needed = first.phase(Phase.DENOISE).needed_bytes
    second = keeping_plan(problem, first, failure(Phase.DENOISE, room_bytes=needed - 2 * GIB))
    assert second is not None
    assert second.component("transformer").placement is Placement.STREAMED
    assert second.batch == 4
    least = keeping_plan(
        problem,
        second,
        failure(Phase.DENOISE, room_bytes=second.phase(Phase.DENOISE).overhead_bytes + 2 * GIB),
    )
    assert least is not None
    assert least.batch < 4
    assert [one.rung for one in changes_between(plan, least, "")] == [
        Rung.STREAM,
        Rung.STREAM,
        Rung.SPLIT,
    ]


def test_the_gentlest_rung_that_fits_the_room_is_taken_at_once():
    problem, plan = posed(vram_gib=24.0)
    room = 3 * GIB
    found = keeping_plan(problem, plan, failure(Phase.DENOISE, room_bytes=room))
    assert found is not None
    assert found.phase(Phase.DENOISE).needed_bytes <= room
    streamed = len(found.component("transformer").streamed_blocks)
    with_one_less = keeping_plan(
        problem,
        plan,
        failure(Phase.DENOISE, room_bytes=found.phase(Phase.DENOISE).needed_bytes + 900 * MIB),
    )
    assert with_one_less is not None
    assert len(with_one_less.component("transformer").streamed_blocks) < streamed


def test_the_decode_goes_down_to_the_cpu():
    problem, plan = posed(vram_gib=24.0, images=2)
    tiles: list[int | None] = []
    for tries in range(1, 12):
        found = keeping_plan(problem, plan, failure(Phase.DECODE, tries=min(tries, 1)))
        if found is None:
            break
        plan = found
        tiles.append(plan.tile_px)
        # The denoise stays as it was planned.
        assert plan.batch == 2
    assert plan.decode_on_cpu
    assert plan.decode_batch == 1
    assert plan.phase(Phase.DECODE).working_bytes == 0
    assert tiles == sorted(tiles, key=lambda tile: -(tile or 10_000))
    assert {768, 512} & set(tiles)


def test_strict_mode_keeps_number_and_size():
    problem, plan = posed(strict=True, images=3)
    assert changing_plan(problem, plan, failure(Phase.DENOISE)) is None
    assert changing_plan(problem, plan, failure(Phase.DENOISE, images_done=2)) is None


def test_what_is_made_stays_and_the_rest_is_put_off():
    problem, plan = posed(images=3)
    found = changing_plan(problem, plan, failure(Phase.DECODE, images_done=2))
    assert found is not None
    assert (found.images, found.images_later, found.width_px) == (2, 1, 1024)
    assert found.verdict is Verdict.SMALLER


def test_smaller_sizes_keep_the_ratio_and_come_to_an_end():
    problem, plan = posed(side_px=1024)
    problem = replace(problem, request=replace(problem.request, width_px=1536, height_px=1024))
    plan = refigured(problem, replace(plan, width_px=1536))
    sizes: list[tuple[int, int]] = []
    for tries in range(1, 200):
        found = changing_plan(problem, plan, failure(Phase.DENOISE, tries=tries))
        if found is None:
            break
        plan = found
        sizes.append((plan.width_px, plan.height_px))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1][1] == 256
    assert all(width % 16 == height % 16 == 0 for width, height in sizes)
    assert all(abs(width / height - 1.5) < 0.05 for width, height in sizes)
    assert changing_plan(problem, plan, failure(Phase.ENCODE)) is None


@settings(max_examples=20, deadline=None)
@given(
    case=CASES,
    phases=st.sampled_from([WORKING, WORKING[1:], WORKING[2:]]),
    wanted=st.integers(1, 12 * GIB),
)
def test_relief_lowers_what_is_to_come_and_keeps_the_picture(
    case: dict[str, Any], phases: tuple[Phase, ...], wanted: int
):
    problem, plan = posed(**case)
    assume(plan.verdict is not Verdict.DOES_NOT_FIT)

    def need(of: GenerationPlan, phase: Phase) -> int:
        return of.phase(phase).needed_bytes

    target = max(need(plan, phase) for phase in phases) - wanted
    found = relieved_plan(problem, plan, phases, wanted)
    if found is None:
        assert all(
            need(plan, phase) <= target or keeping_plan(problem, plan, failure(phase)) is None
            for phase in phases
        )
        return
    assert (found.width_px, found.images) == (plan.width_px, plan.images)
    assert any(need(found, phase) < need(plan, phase) for phase in phases)
    for phase in phases:
        assert need(found, phase) <= need(plan, phase)
        # As much as was wanted, or all there is to give.
        if need(found, phase) > target:
            assert keeping_plan(problem, found, failure(phase)) is None


def test_relief_that_is_not_wanted_changes_nothing():
    problem, plan = posed()
    assert relieved_plan(problem, plan, WORKING, 0) is None
    assert relieved_plan(problem, plan, (Phase.SAVE,), GIB) is None


def test_each_failure_at_the_same_place_asks_for_twice_as_much():
    problem, plan = posed(vram_gib=48.0)
    expected = plan.phase(Phase.DENOISE).needed_bytes
    needs: list[int] = []
    for tries, share in ((1, 1 / 8), (2, 1 / 4), (3, 1 / 2), (4, 1 / 2)):
        found = keeping_plan(problem, plan, failure(Phase.DENOISE, tries=tries))
        assert found is not None
        needs.append(found.phase(Phase.DENOISE).needed_bytes)
        assert needs[-1] <= expected * (1 - share)
    # Not more than that at once.
    assert needs[0] > expected / 2
    assert needs[2] == needs[3]
