"""The planner's plan for a case: how the transformer is kept on a card."""

from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import ComponentPlan, Placement, Verdict
from app.core.policy import MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.profile import Calibration, DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.engine.overheads import default_calibration
from app.engine.planner import plan_generation
from app.engine.planning.block_residency import block_residencies
from app.engine.planning.components import TRANSFORMER
from bench.residency_parts.cases import LEAST, SMALL, Case
from bench.residency_parts.work import block_work, coefficients_of, weights_of

PLENTY = HostProfile(total_bytes=1 << 50, available_bytes=1 << 50)
"""RAM is looked at by itself: a case that it cannot hold says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How the transformer is kept.

    Attributes:
        component: For `app.engine.residency`.
        streamed_bytes: That come in with each step.
        peak_bytes: What the denoise phase needs of the card as planned, with all overheads.
        working_bytes: Of them, beside the weights, of tensors.
    """

    component: ComponentPlan
    streamed_bytes: int
    peak_bytes: int
    working_bytes: int


def calibration_of(case: Case) -> Calibration:
    """What the floors have shown; the planner's assumptions for what they do not show."""
    known = default_calibration("cuda", "", growing=True)
    if case.compute_s > 0:
        flops = block_work(case.model, case.size_px).total
        known = replace(known, compute_flops=flops / case.compute_s)
    if case.bytes_per_s > 0:
        known = replace(known, copy_bytes_per_s=case.bytes_per_s)
    return replace(known, context_bytes=case.context_bytes or known.context_bytes)


def plan_case(case: Case, calibration: Calibration | None = None) -> Planned | str:
    """The plan of a Headroom case, or why there is none.

    Args:
        case: With a cap.
        calibration: Of the card; None is what the case's floors say.
    """
    if case.model == SMALL:
        return _plan_small(case)
    calibration = calibration or calibration_of(case)
    cap_bytes = case.cap_bytes or 0
    coefficients = coefficients_of(case.model)
    precision = Precision(case.precision)
    policy = MemoryPolicy(
        limit_bytes=cap_bytes,
        mode=MemoryMode.MINIMAL if case.mode == LEAST else MemoryMode.AUTO,
        strict=True,
        precisions=Precisions(text_encoder=precision, transformer=precision),
    )
    plan = plan_generation(
        GenerationRequest(
            prompt="any",
            model=case.model,
            width_px=case.size_px,
            height_px=case.size_px,
            steps=coefficients.default_steps,
        ),
        DeviceProfile(
            kind="cuda",
            name="acted",
            total_bytes=cap_bytes,
            free_bytes=cap_bytes,
            calibration=calibration,
        ),
        PLENTY,
        policy,
        coefficients,
    )
    if plan.verdict is Verdict.DOES_NOT_FIT:
        return " ".join(plan.reasons)
    component = plan.component(TRANSFORMER)
    phase = plan.phase(Phase.DENOISE)
    _rest, blocks = weights_of(case.model, case.precision)
    return Planned(
        component=component,
        streamed_bytes=sum(blocks[index] for index in component.streamed_blocks),
        peak_bytes=phase.peak_vram_bytes,
        working_bytes=phase.working_bytes,
    )


def _plan_small(case: Case) -> Planned | str:
    """The planner's ways to keep blocks, for a network and cards too small for a whole plan.

    Only the weights count: there is no GPU around them.
    """
    precision = Precision(case.precision)
    rest_bytes, blocks = weights_of(case.model, case.precision)
    room = (case.cap_bytes or 0) - rest_bytes
    whole = sum(blocks)
    streams = [way for way in block_residencies(blocks) if way.device_bytes <= room]
    if case.mode != LEAST and whole <= room:
        component = ComponentPlan(
            name=TRANSFORMER,
            precision=precision,
            placement=Placement.TURNS,
            weights_bytes=rest_bytes + whole,
            device_bytes=rest_bytes + whole,
        )
        streamed = 0
    elif streams:
        smallest = min(streams, key=lambda way: way.device_bytes)
        way = smallest if case.mode == LEAST else streams[0]
        component = ComponentPlan(
            name=TRANSFORMER,
            precision=precision,
            placement=Placement.STREAMED,
            weights_bytes=rest_bytes + whole,
            device_bytes=rest_bytes + way.device_bytes,
            streamed_blocks=way.streamed_blocks,
            slots_bytes=way.slots_bytes,
        )
        streamed = way.streamed_bytes
    else:
        return "Even two slots beside what is not in blocks are more than the card has."
    return Planned(
        component=component,
        streamed_bytes=streamed,
        peak_bytes=component.device_bytes,
        working_bytes=0,
    )
