"""A plan that changes during its run: the same accounts as the planner's for another choice."""

from collections.abc import Iterable
from dataclasses import replace

from app.core.plan import ComponentPlan, GenerationPlan, Placement
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.decode_ways import DecodeWay
from app.engine.planning.kept import (
    Kept,
    all_ways,
    in_turns,
    resident,
    ways_to_come,
    with_files,
)
from app.engine.planning.phase_needs import PhaseNeeds
from app.engine.planning.problem import PlanProblem
from app.engine.planning.ram import cpu_decode_ram_bytes
from app.engine.planning.way import Way, verdict_of


def refigured(problem: PlanProblem, plan: GenerationPlan) -> GenerationPlan:
    """A plan whose choices were changed, with figures that belong to them.

    Args:
        problem: The plan was made for.
        plan: With other placements, parts, decode or size than its figures are of.
    """
    way = way_of(problem, plan)
    phases = way.phases(problem)
    peak_bytes = max(phase.peak_vram_bytes for phase in phases)
    return replace(
        plan,
        verdict=verdict_of(problem, way),
        components=way.components(problem),
        phases=phases,
        ram_peak_bytes=peak_bytes if problem.on_cpu else way.ram_bytes,
    )


def way_of(problem: PlanProblem, plan: GenerationPlan) -> Way:
    """The choices of a plan, with what they need."""
    kept = {name: kept_by(problem, plan.component(name)) for name in COMPONENTS}
    staying = frozenset(name for name in COMPONENTS if kept[name].placement is Placement.RESIDENT)
    needs = PhaseNeeds(
        problem, width_px=plan.width_px, height_px=plan.height_px, images=plan.images
    )
    decode = decode_way(problem, plan, needs)
    return Way(
        width_px=plan.width_px,
        height_px=plan.height_px,
        images=plan.images,
        batch=plan.batch,
        kept=kept,
        decode=decode,
        encoding=needs.any_size.encode(staying, kept[TEXT_ENCODER]),
        denoising=needs.denoise(staying, kept[TRANSFORMER], plan.batch),
        decoding=needs.decode(staying, decode),
        ram_bytes=needs.ram_bytes + decode.ram_bytes,
    )


def placed(plan: GenerationPlan, names: Iterable[str], placement: Placement) -> GenerationPlan:
    """The plan with components placed otherwise, whole; its figures are as before."""
    chosen = frozenset(names)
    components = tuple(
        replace(one, placement=placement, streamed_blocks=(), slots_bytes=0, file_blocks=())
        if one.name in chosen
        else one
        for one in plan.components
    )
    return replace(plan, components=components)


def streamed(plan: GenerationPlan, name: str, way: Kept) -> GenerationPlan:
    """The plan with a component streamed in one of its ways; its figures are as before."""
    components = tuple(
        replace(
            one,
            placement=Placement.STREAMED,
            device_bytes=way.device_bytes,
            streamed_blocks=way.streamed_blocks,
            slots_bytes=way.slots_bytes,
            file_blocks=way.file_blocks,
        )
        if one.name == name
        else one
        for one in plan.components
    )
    return replace(plan, components=components)


def more_streamed(problem: PlanProblem, component: ComponentPlan) -> tuple[Kept, ...]:
    """Ways to keep a component that need less of the device than its own, the next one first."""
    return tuple(
        way
        for way in ways_to_come(problem, component.name)
        if way.placement is Placement.STREAMED and way.device_bytes < component.device_bytes
    )


def kept_by(problem: PlanProblem, component: ComponentPlan) -> Kept:
    """The way in which a plan keeps a component; in turns where the planner knows no such way."""
    if component.placement is Placement.RESIDENT:
        return resident(problem.weights[component.name])
    if component.placement is Placement.STREAMED:
        choice = (component.streamed_blocks, component.slots_bytes)
        for way in all_ways(problem, component.name).streamed:
            if (way.streamed_blocks, way.slots_bytes) == choice:
                return with_files(problem, component.name, way)
    return in_turns(problem, component.name)


def decode_way(problem: PlanProblem, plan: GenerationPlan, needs: PhaseNeeds) -> DecodeWay:
    """How a plan decodes, also where it would not occur to the planner."""
    choice = (plan.decode_batch, plan.tile_px, plan.decode_on_cpu)
    ways = needs.decodes(plan.decode_batch)
    for way in ways:
        if (way.batch, way.tile_px, way.on_cpu) == choice:
            return way
    width_px, height_px, tile_px = plan.width_px, plan.height_px, plan.tile_px
    forecast_bytes = ram_bytes = 0
    if plan.decode_on_cpu:
        ram_bytes = cpu_decode_ram_bytes(
            problem, width_px=width_px, height_px=height_px, tile_px=tile_px
        )
    else:
        forecast_bytes = problem.coefficients.decode_working_bytes(
            images=plan.decode_batch,
            width_px=width_px,
            height_px=height_px,
            tile_px=tile_px,
            precision=problem.precisions[AUTOENCODER],
        )
    return DecodeWay(
        batch=plan.decode_batch,
        tile_px=tile_px,
        on_cpu=plan.decode_on_cpu,
        forecast_bytes=forecast_bytes,
        ram_bytes=ram_bytes,
        seconds=ways[-1].seconds,
    )
