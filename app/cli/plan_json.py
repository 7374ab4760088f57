"""A plan for programs; sizes are bytes, times are seconds."""

from typing import Any

from app.cli.plan_machine import Machine
from app.core.plan import GenerationPlan, PhasePlan
from app.engine.planner import Asked
from app.engine.solver import Solution, WhatFits


def plan_as_json(
    plan: GenerationPlan, machine: Machine, *, steps: int, figures: Asked
) -> dict[str, Any]:
    """The plan as one object.

    Args:
        plan: To tell.
        machine: It is for.
        steps: Denoising steps.
        figures: Whose figures these are: where nothing fits, of the least that was tried.
    """
    width_px, height_px, images = figures
    return {
        "event": "plan",
        "verdict": plan.verdict.value,
        "reasons": plan.reasons,
        "model": plan.model,
        "width": plan.width_px,
        "height": plan.height_px,
        "images": plan.images,
        "images_later": plan.images_later,
        "figures_of": {"width": width_px, "height": height_px, "images": images},
        "steps": steps,
        "precision": plan.component("transformer").runs_as,
        "peak_vram_bytes": plan.peak_vram_bytes,
        "budget_bytes": plan.budget_bytes,
        "missing_bytes": plan.missing_bytes,
        "seconds": plan.seconds,
        "phases": [_phase(phase) for phase in plan.phases],
        "changes": [
            {
                "rung": change.rung.value,
                "from": change.before,
                "to": change.after,
                "reason": change.reason,
            }
            for change in plan.changes
        ],
        "batch": plan.batch,
        "decode_batch": plan.decode_batch,
        "tile_px": plan.tile_px,
        "decode_on_cpu": plan.decode_on_cpu,
        "components": [
            {
                "name": component.name,
                "precision": component.runs_as,
                "placement": component.placement.value,
                "weights_bytes": component.weights_bytes,
                "device_bytes": component.device_bytes,
                "slots_bytes": component.slots_bytes,
                "streamed_blocks": component.streamed_blocks,
                "file_blocks": component.file_blocks,
            }
            for component in plan.components
        ],
        "attention": plan.attention.value,
        "ram_peak_bytes": plan.ram_peak_bytes,
        "ram_budget_bytes": plan.ram_budget_bytes if machine.ram_told else None,
        "measured_runs": plan.measured_runs,
        "device": {
            "kind": machine.device.kind,
            "name": machine.device.name,
            "total_bytes": machine.device.total_bytes,
            "free_bytes": machine.device.free_bytes,
            "described": machine.device.simulated,
        },
    }


def solution_as_json(found: WhatFits) -> dict[str, Any]:
    """What would fit; null where nothing does."""
    return {
        "size": _solution(found.size),
        "images": _solution(found.images),
        "images_at_once": _solution(found.images_at_once),
        "references": _solution(found.references),
    }


def _phase(phase: PhasePlan) -> dict[str, Any]:
    return {
        "name": phase.phase.value,
        "peak_vram_bytes": phase.peak_vram_bytes,
        "weights_bytes": phase.weights_bytes,
        "working_bytes": phase.working_bytes,
        "overhead_bytes": phase.overhead_bytes,
        "uncertainty_bytes": phase.uncertainty_bytes,
        "seconds": phase.seconds,
        "seconds_low": phase.seconds_low,
        "seconds_high": phase.seconds_high,
        "waiting_seconds": phase.waiting_seconds,
    }


def _solution(solution: Solution | None) -> dict[str, Any] | None:
    if solution is None:
        return None
    return {
        "width": solution.request.width_px,
        "height": solution.request.height_px,
        "images": solution.request.images,
        "references": solution.references,
        "verdict": solution.plan.verdict.value,
        "peak_vram_bytes": solution.plan.peak_vram_bytes,
        "seconds": solution.plan.seconds,
    }
