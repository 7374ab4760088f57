"""Which rung is next when memory has run out, or is about to: pure, from the plan in force.

Every answer needs less of the device than the plan it starts from, and there are only so many of
them: whoever asks again after each failure comes to an end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import DECODE_TILES_PX, GenerationPlan, Placement
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.problem import PlanProblem
from app.engine.planning.sizes import smaller_sizes
from app.engine.replan import more_streamed, placed, refigured, streamed

FIRST_CUT = 1 / 8
"""Of what a phase was expected to need: after a failure that no forecast explains, at least this
much less is tried; twice as much after each further failure at the same place."""
LARGEST_CUT = 1 / 2
_OWN = {Phase.ENCODE: TEXT_ENCODER, Phase.DENOISE: TRANSFORMER, Phase.DECODE: AUTOENCODER}
_LOAD_ORDER = (TEXT_ENCODER, AUTOENCODER, TRANSFORMER)
"""In which resident components give way while they are being brought to the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Memory ran out.

    Attributes:
        phase: In which.
        room_bytes: What a run of ours could have on the device now; None where that is not known.
        tries: How often it ran out at this place, this time included.
        images_done: Images of the run that are finished.
    """

    phase: Phase
    room_bytes: int | None
    tries: int
    images_done: int


def keeping_plan(
    problem: PlanProblem, plan: GenerationPlan, failure: Failure
) -> GenerationPlan | None:
    """The gentlest plan that still makes the pictures asked for, or None when there is no other."""
    keeping = _keeping(problem, plan, failure.phase)
    return _next_fitting(keeping, failure.phase, _target(plan, failure))


def changing_plan(
    problem: PlanProblem, plan: GenerationPlan, failure: Failure
) -> GenerationPlan | None:
    """The gentlest plan that makes fewer images or smaller ones; None when strict or at the end."""
    if problem.policy.strict:
        return None
    done = failure.images_done
    if 0 < done < plan.images:
        # What is made stays; the rest may find more memory as a job of its own.
        later = plan.images_later + plan.images - done
        fewer = replace(plan, images=done, images_later=later, batch=1, decode_batch=1)
        return refigured(problem, fewer)
    if failure.phase not in (Phase.DENOISE, Phase.DECODE):
        return None  # The size makes no difference there.
    smaller = _smaller(problem, plan)
    return _next_fitting(smaller, failure.phase, _target(plan, failure))


def least_needed_bytes(problem: PlanProblem, plan: GenerationPlan, phase: Phase) -> int:
    """What a phase needs in the smallest way that still makes the pictures asked for."""
    ways = (plan, *_keeping(problem, plan, phase))
    return min(way.phase(phase).needed_bytes for way in ways)


def relieved_plan(
    problem: PlanProblem, plan: GenerationPlan, phases: Iterable[Phase], wanted_bytes: int
) -> GenerationPlan | None:
    """The gentlest plan whose remaining peak is lower by so much; None when nothing helps.

    Where nothing lowers it by so much, it is lowered as far as it goes without other pictures.

    Args:
        problem: The plan was made for.
        plan: In force.
        phases: That are still to come, the present one included.
        wanted_bytes: By which the peak is to be lower.
    """
    left = [phase for phase in phases if phase in _OWN]
    if not left or wanted_bytes <= 0:
        return None
    target = max(plan.phase(phase).needed_bytes for phase in left) - wanted_bytes
    relieved = plan
    for phase in left:
        if relieved.phase(phase).needed_bytes > target:
            found = _first_fitting(_keeping(problem, relieved, phase), phase, target)
            relieved = found or relieved
    return None if relieved is plan else relieved


def _target(plan: GenerationPlan, failure: Failure) -> int:
    expected = plan.phase(failure.phase).needed_bytes
    cut = min(LARGEST_CUT, FIRST_CUT * 2 ** (failure.tries - 1))
    target = int(expected * (1 - cut))
    return target if failure.room_bytes is None else min(target, failure.room_bytes)


def _first_fitting(
    plans: Iterable[GenerationPlan], phase: Phase, target_bytes: int
) -> GenerationPlan | None:
    """The first that needs no more than the target, else the one that needs least."""
    least: GenerationPlan | None = None
    for plan in plans:
        needed = plan.phase(phase).needed_bytes
        if needed <= target_bytes:
            return plan
        if least is None or needed < least.phase(phase).needed_bytes:
            least = plan
    return least


def _next_fitting(
    plans: Iterable[GenerationPlan], phase: Phase, target_bytes: int
) -> GenerationPlan | None:
    """The first that needs no more than the target, else one half-way down: it may be too strict.

    After a failure that the figures do not explain they are no reason to give up everything.
    """
    found = list(plans)
    for plan in found:
        if plan.phase(phase).needed_bytes <= target_bytes:
            return plan
    return found[(len(found) - 1) // 2] if found else None


def _keeping(problem: PlanProblem, plan: GenerationPlan, phase: Phase) -> Iterator[GenerationPlan]:
    """Plans that need less in a phase than the one in force, the gentlest first."""
    if phase is Phase.LOAD:
        yield from _fewer_resident(problem, plan)
    elif phase is Phase.ENCODE:
        yield from _lighter(problem, plan, TEXT_ENCODER)
    elif phase is Phase.DENOISE:
        yield from _lighter(problem, plan, TRANSFORMER)
        for batch in _smaller_parts(plan.batch):
            split = replace(plan, batch=batch, decode_batch=min(plan.decode_batch, batch))
            split = refigured(problem, split)
            yield split
            yield from _lighter(problem, split, TRANSFORMER)
    elif phase is Phase.DECODE:
        alone = _without_others(problem, plan, AUTOENCODER)
        if alone is not None:
            yield alone
        yield from _smaller_decodes(problem, alone or plan)


def _fewer_resident(problem: PlanProblem, plan: GenerationPlan) -> Iterator[GenerationPlan]:
    if problem.on_cpu:
        return
    for name in _LOAD_ORDER:
        if plan.component(name).placement is Placement.RESIDENT:
            plan = refigured(problem, placed(plan, [name], Placement.TURNS))
            yield plan


def _lighter(problem: PlanProblem, plan: GenerationPlan, name: str) -> Iterator[GenerationPlan]:
    """Less weights beside a component that computes, then less of its own."""
    alone = _without_others(problem, plan, name)
    if alone is not None:
        yield alone
        plan = alone
    if problem.on_cpu:
        return
    for way in more_streamed(problem, plan.component(name)):
        yield refigured(problem, streamed(plan, name, way))


def _without_others(problem: PlanProblem, plan: GenerationPlan, name: str) -> GenerationPlan | None:
    others = [
        other
        for other in COMPONENTS
        if other != name and plan.component(other).placement is Placement.RESIDENT
    ]
    if problem.on_cpu or not others:
        return None
    return refigured(problem, placed(plan, others, Placement.TURNS))


def _smaller_parts(batch: int) -> Iterator[int]:
    while batch > 1:
        batch = -(-batch // 2)
        yield batch


def _smaller_decodes(problem: PlanProblem, plan: GenerationPlan) -> Iterator[GenerationPlan]:
    if plan.decode_on_cpu:
        return
    if plan.decode_batch > 1:
        plan = refigured(problem, replace(plan, decode_batch=1))
        yield plan
    longest_px = max(plan.width_px, plan.height_px) if plan.tile_px is None else plan.tile_px
    for tile_px in DECODE_TILES_PX:
        if tile_px < longest_px:
            plan = refigured(problem, replace(plan, tile_px=tile_px))
            yield plan
    if not problem.on_cpu:
        on_cpu = placed(replace(plan, decode_on_cpu=True), [AUTOENCODER], Placement.TURNS)
        yield refigured(problem, on_cpu)


def _smaller(problem: PlanProblem, plan: GenerationPlan) -> Iterator[GenerationPlan]:
    pixels = plan.width_px * plan.height_px
    request = problem.request
    for width_px, height_px in reversed(smaller_sizes(request.width_px, request.height_px)):
        if width_px * height_px < pixels:
            yield refigured(problem, replace(plan, width_px=width_px, height_px=height_px))
