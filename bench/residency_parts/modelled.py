"""The modelled table: what should come out on GPUs that were not at hand."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from app.core.policy import Precision
from app.core.profile import Calibration
from app.engine.overheads import default_calibration
from app.engine.residency.timeline import step_seconds
from bench.residency_parts.cases import (
    GIB,
    GROUP_RECORD,
    HEADROOM,
    LEAST,
    MODEL,
    OFFLOADS,
    RESIDENT,
    SEQUENTIAL,
    Case,
)
from bench.residency_parts.diffusers_rules import (
    Speeds,
    Work,
    device_weights_bytes,
    host_bytes,
    step_seconds_of,
)
from bench.residency_parts.gpus import GPUS, PINNING_BYTES_PER_S, GpuClass
from bench.residency_parts.planned import Planned, plan_case
from bench.residency_parts.rows import DOES_NOT_FIT, NOT_HERE, OK, OUT_OF_MEMORY, Row, new_row
from bench.residency_parts.work import block_work, coefficients_of, weights_of


def modelled_rows(
    models: Sequence[str],
    caps_bytes: Sequence[int],
    precisions: Sequence[str],
    size_px: int,
    gpus: Sequence[GpuClass] = GPUS,
) -> Iterator[Row]:
    """Every GPU class whose memory is among the caps; each model, precision and mode."""
    for gpu in gpus:
        for model in models:
            for precision in precisions:
                for cap_bytes in sorted(caps_bytes):
                    if cap_bytes != gpu.card_gb * GIB:
                        continue
                    for mode in (HEADROOM, LEAST, RESIDENT, *OFFLOADS):
                        case = Case(
                            model=model,
                            mode=mode,
                            precision=precision,
                            cap_bytes=cap_bytes,
                            device="cuda",
                            size_px=size_px,
                            steps=0,
                        )
                        row = _modelled(case, gpu)
                        yield {**row, "gpu": gpu.name}


def work_of(case: Case, gpu: GpuClass) -> Work:
    """What a step computes and has to bring, on a GPU class."""
    work = block_work(case.model, case.size_px)
    rest_bytes, blocks = weights_of(case.model, case.precision)
    linear_s = gpu.linear_seconds(case.precision, work.linear, case.model, case.size_px)
    return Work(
        compute_s=[block_s + work.attention / gpu.flops for block_s in linear_s],
        rest_s=work.rest / gpu.flops,
        block_bytes=blocks,
        rest_bytes=rest_bytes,
    )


def calibration_of(case: Case, gpu: GpuClass) -> Calibration:
    """What the planner is told of a GPU class."""
    work = work_of(case, gpu)
    compute_s = sum(work.compute_s) + work.rest_s
    return replace(
        default_calibration("cuda", gpu.name, growing=True),
        compute_flops=block_work(case.model, case.size_px).total / compute_s,
        copy_bytes_per_s=gpu.bytes_per_s,
    )


def _modelled(case: Case, gpu: GpuClass) -> Row:
    work = work_of(case, gpu)
    calibration = calibration_of(case, gpu)
    floors: dict[str, Any] = {
        "compute_s": sum(work.compute_s) + work.rest_s,
        "bytes_per_s": gpu.bytes_per_s,
        "weights_bytes": sum(work.block_bytes) + work.rest_bytes,
        "context_bytes": calibration.context_bytes,
    }
    if case.mode in (HEADROOM, LEAST):
        planned = plan_case(case, calibration)
        if isinstance(planned, str):
            return new_row(case, DOES_NOT_FIT, note=planned, **floors)
        return new_row(case, OK, **_headroom(planned, work, gpu), **floors)
    if case.mode == SEQUENTIAL and case.precision != "bf16":
        note = "accelerate leaves the buffers of quantized layers on the card: nothing is offloaded"
        return new_row(case, NOT_HERE, note=note, **floors)
    return _diffusers(case, work, gpu, calibration, floors)


def _headroom(planned: Planned, work: Work, gpu: GpuClass) -> dict[str, Any]:
    component = planned.component
    step_s = sum(work.compute_s)
    if component.streamed_blocks:
        step_s = step_seconds(
            work.compute_s,
            work.block_bytes,
            component.streamed_blocks,
            component.slots_bytes,
            gpu.bytes_per_s,
        ).seconds
    return {
        "step_s": step_s + work.rest_s,
        "predicted_s": step_s + work.rest_s,
        "streamed_bytes": planned.streamed_bytes,
        "device_weights_bytes": component.device_bytes,
        "slots_bytes": component.slots_bytes,
        "planned_vram_bytes": planned.peak_bytes,
        "peak_vram_bytes": component.device_bytes + planned.working_bytes,
    }


def _diffusers(
    case: Case, work: Work, gpu: GpuClass, calibration: Calibration, floors: dict[str, Any]
) -> Row:
    weights = device_weights_bytes(case.mode, case.model, case.precision)
    working = working_bytes(case)
    cap_bytes = case.cap_bytes or 0
    context = calibration.context_bytes + calibration.workspace_bytes
    if weights + working + context > cap_bytes:
        return new_row(case, OUT_OF_MEMORY, device_weights_bytes=weights, **floors)
    room = cap_bytes - context - working - work.rest_bytes
    speeds = Speeds(
        bytes_per_s=gpu.bytes_per_s,
        pageable_bytes_per_s=gpu.pageable_bytes_per_s,
        pinning_bytes_per_s=PINNING_BYTES_PER_S,
    )
    if case.mode == GROUP_RECORD:
        weights = work.rest_bytes + min(room, sum(work.block_bytes))
    streams = case.mode not in (RESIDENT, MODEL)
    return new_row(
        case,
        OK,
        step_s=step_seconds_of(case.mode, work, speeds, room_bytes=room),
        streamed_bytes=floors["weights_bytes"] if streams else 0,
        device_weights_bytes=weights,
        peak_vram_bytes=weights + working,
        ram_bytes=host_bytes(case.mode, case.model, case.precision),
        **floors,
    )


def working_bytes(case: Case) -> int:
    """Of tensors beside the weights while a step computes, the same for all modes."""
    return coefficients_of(case.model).denoise_working_bytes(
        images=1,
        width_px=case.size_px,
        height_px=case.size_px,
        precision=Precision(case.precision),
    )
