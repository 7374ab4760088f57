"""How a request is run on a device: arithmetic without torch, done as one types."""

import functools
from dataclasses import replace

from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.engine.coefficients import ModelCoefficients
from app.engine.planning.at_hand import AtHand
from app.engine.planning.changes import changes_of
from app.engine.planning.ladder import Ladder
from app.engine.planning.order import last_in_order
from app.engine.planning.problem import PlanProblem, pose
from app.engine.planning.reasons import reasons_of, refusal
from app.engine.planning.sizes import smaller_sizes
from app.engine.planning.way import Way, streaming_seconds, verdict_of

Asked = tuple[int, int, int]
"""Width, height and number of images."""


def plan_generation(
    request: GenerationRequest,
    device: DeviceProfile,
    host: HostProfile,
    policy: MemoryPolicy,
    coefficients: ModelCoefficients,
    limits: PresetLimits | None = None,
    *,
    references: tuple[tuple[int, int], ...] = (),
    loaded: bool = False,
    at_hand: AtHand | None = None,
) -> GenerationPlan:
    """The gentlest plan that fits; the same for the same arguments.

    Args:
        request: What to make; without problems of its own.
        device: To run on, with what is free on it now.
        host: The computer around it.
        policy: How memory may be used.
        coefficients: Of the request's model.
        limits: The most that may be made at once; None is no limit.
        references: Width and height of each reference image, in pixels.
        loaded: Whether the model is in RAM already, and the host's available RAM is without it.
        at_hand: What need not be made again; None where nobody has looked: then all prompts are
            taken to be new, and all weights to be converted already.
    """
    posed = functools.partial(
        pose,
        request,
        device,
        host,
        policy,
        coefficients,
        limits=limits,
        references=references,
        loaded=loaded,
    )
    problem = posed(at_hand=at_hand)
    width_px, height_px, images = request.width_px, request.height_px, request.images
    way = way_for(problem, width_px, height_px, images)
    if way is None and not policy.strict:
        way = _fewer(problem) or _smaller(problem)
    if way is not None:
        return _plan(problem, way)
    if at_hand is not None and at_hand.known_prompts:
        # The engine looks for embeddings when it has a plan: what it refuses has all components.
        problem = posed(at_hand=replace(at_hand, known_prompts=frozenset()))
    return _refuse(problem)


def figures_of(plan: GenerationPlan, request: GenerationRequest, policy: MemoryPolicy) -> Asked:
    """Whose figures a plan shows: where nothing fits, of the least that was tried."""
    if plan.verdict is not Verdict.DOES_NOT_FIT:
        return plan.width_px, plan.height_px, plan.images
    return _least_of(request, policy)


def way_for(
    problem: PlanProblem, width_px: int, height_px: int, images: int, *, may_split: bool = True
) -> Way | None:
    """The gentlest way to make exactly this, or None."""
    if not problem.allows_size(width_px, height_px):
        return None
    ladder = Ladder(problem, width_px=width_px, height_px=height_px, images=images)
    return ladder.best(may_split=may_split)


def plan_in_one_batch(problem: PlanProblem) -> GenerationPlan | None:
    """The plan for exactly what is asked for without parts, or None when it does not fit so."""
    request = problem.request
    way = way_for(problem, request.width_px, request.height_px, request.images, may_split=False)
    return None if way is None else _plan(problem, way)


def can_make(problem: PlanProblem, width_px: int, height_px: int, images: int) -> bool:
    """Whether there is a way to make exactly this; quicker than to look for the gentlest."""
    return (
        problem.allows_size(width_px, height_px)
        and Ladder(problem, width_px=width_px, height_px=height_px, images=images).fits()
    )


def largest_smaller_size(problem: PlanProblem, images: int) -> tuple[int, int] | None:
    """The largest size below the one asked for in which so many images can be made."""
    sizes = smaller_sizes(problem.request.width_px, problem.request.height_px)
    return last_in_order(sizes, lambda size: can_make(problem, *size, images))


def most_images(problem: PlanProblem, width_px: int, height_px: int) -> int:
    """How many of the images asked for can be made of this size; 0 for none."""
    counts = range(1, problem.request.images + 1)
    return last_in_order(counts, lambda count: can_make(problem, width_px, height_px, count)) or 0


def _fewer(problem: PlanProblem) -> Way | None:
    request = problem.request
    count = most_images(problem, request.width_px, request.height_px)
    return way_for(problem, request.width_px, request.height_px, count) if count else None


def _smaller(problem: PlanProblem) -> Way | None:
    size = largest_smaller_size(problem, problem.request.images)
    if size is not None:
        return way_for(problem, *size, problem.request.images)
    size = largest_smaller_size(problem, 1)
    return None if size is None else way_for(problem, *size, most_images(problem, *size))


def _plan(problem: PlanProblem, way: Way) -> GenerationPlan:
    plan = _described(problem, way, verdict_of(problem, way))
    plan = replace(plan, changes=changes_of(problem, way))
    streaming_s = streaming_seconds(problem, way)
    return replace(plan, reasons=reasons_of(problem, plan, streaming_s=streaming_s))


def _refuse(problem: PlanProblem) -> GenerationPlan:
    """A plan that cannot be run: with the figures of the way that needs least."""
    request = problem.request
    width_px, height_px, images = _least_of(request, problem.policy)
    least = Ladder(problem, width_px=width_px, height_px=height_px, images=images).least()
    plan = _described(problem, least, Verdict.DOES_NOT_FIT)
    return replace(
        plan,
        width_px=request.width_px,
        height_px=request.height_px,
        images=request.images,
        images_later=0,
        missing_bytes=least.missing_bytes(problem),
        reasons=refusal(
            problem,
            least,
            size=largest_smaller_size(problem, 1) if problem.policy.strict else None,
            images=most_images(problem, request.width_px, request.height_px),
        ),
    )


def _least_of(request: GenerationRequest, policy: MemoryPolicy) -> Asked:
    smaller = smaller_sizes(request.width_px, request.height_px)
    if smaller and not policy.strict:
        return (*smaller[0], 1)
    return request.width_px, request.height_px, request.images


def _described(problem: PlanProblem, way: Way, verdict: Verdict) -> GenerationPlan:
    phases = way.phases(problem)
    peak_bytes = max(phase.peak_vram_bytes for phase in phases)
    return GenerationPlan(
        verdict=verdict,
        model=problem.coefficients.name,
        width_px=way.width_px,
        height_px=way.height_px,
        images=way.images,
        images_later=problem.request.images - way.images,
        batch=way.batch,
        decode_batch=way.decode.batch,
        tile_px=way.decode.tile_px,
        decode_on_cpu=way.decode.on_cpu,
        components=way.components(problem),
        phases=phases,
        budget_bytes=problem.budget_bytes,
        total_bytes=problem.device.total_bytes,
        ram_peak_bytes=peak_bytes if problem.on_cpu else way.needed_ram_bytes(problem),
        ram_budget_bytes=problem.budget_bytes if problem.on_cpu else problem.ram_budget_bytes,
        measured_runs=problem.device.calibration.runs,
        attention=problem.policy.attention,
    )
