"""A plan for people."""

from collections.abc import Sequence

from app.cli.argument_types import PRECISIONS
from app.cli.plan_machine import Machine
from app.core.plan import ComponentPlan, GenerationPlan, Placement, Verdict
from app.core.preset_folder import PresetEntry
from app.core.profile import DeviceProfile
from app.core.units import format_bandwidth, format_bytes, format_seconds
from app.engine.planning.changes import COMPONENT_WORDS
from app.engine.planning.figures import size_text
from app.engine.planning.precisions import PRECISION_WORDS
from app.engine.solver import Solution, WhatFits

_PRECISION_WORDS = {precision: word for word, precision in PRECISIONS.items()} | PRECISION_WORDS


def plan_as_text(
    plan: GenerationPlan, machine: Machine, label: str, *, steps: int, preset: PresetEntry | None
) -> str:
    """The plan as a page."""
    images = "1 image" if plan.images == 1 else f"{plan.images} images"
    device = machine.device
    described = ", described" if device.simulated else ""
    lines = [
        f"{label}, {images} of {size_text(plan.width_px, plan.height_px)}, "
        + ("1 step" if steps == 1 else f"{steps} steps"),
        f"{device.name} ({format_bytes(device.total_bytes)}{described}), "
        f"{format_bytes(plan.budget_bytes)} may be used"
        + ("" if preset is None else f", preset “{preset.name}”"),
        "",
        *plan.reasons,
        "",
        # Nothing larger was planned to its end: these are of the least that was tried.
        *(["The smallest way that was tried needs:"] if _refused(plan) else []),
        *_phases(plan),
        *(_assumed(device) if device.simulated else []),
        "",
        *(_component(component, on_cpu=machine.on_cpu) for component in plan.components),
    ]
    if plan.changes:
        lines += ["", "What gives way:"]
        lines += [f"  {change.before} -> {change.after}" for change in plan.changes]
    return "\n".join(lines) + "\n"


def solution_as_text(found: WhatFits) -> str:
    """What would fit, one line each."""
    rows = [("What would fit", "", "peak", "time")]
    for name, solution in (
        ("largest size", found.size),
        ("most images", found.images),
        ("most images at once", found.images_at_once),
        ("most reference images", found.references),
    ):
        if solution is None:
            rows.append((name, "nothing", "", ""))
        else:
            plan = solution.plan
            rows.append(
                (
                    name,
                    _what(name, solution),
                    format_bytes(plan.peak_vram_bytes),
                    format_seconds(plan.seconds),
                )
            )
    return "\n" + "\n".join(_table(rows)) + "\n"


def _what(name: str, solution: Solution) -> str:
    if name == "largest size":
        return size_text(solution.request.width_px, solution.request.height_px)
    if name == "most reference images":
        return str(solution.references)
    return str(solution.request.images)


def _assumed(device: DeviceProfile) -> list[str]:
    """What the times of a described machine stand on."""
    speeds = device.calibration
    return [
        f"Times are of a device that computes {speeds.compute_flops / 1e12:.2g} TFLOPS and a disk "
        f"of {format_bandwidth(speeds.read_bytes_per_s)}: many are faster."
    ]


def _refused(plan: GenerationPlan) -> bool:
    return plan.verdict is Verdict.DOES_NOT_FIT


def _phases(plan: GenerationPlan) -> list[str]:
    rows = [("phase", "weights", "working", "besides", "peak", "may be off", "time")]
    rows += [
        (
            phase.phase.value,
            format_bytes(phase.weights_bytes),
            format_bytes(phase.working_bytes),
            format_bytes(phase.overhead_bytes),
            format_bytes(phase.peak_vram_bytes),
            format_bytes(phase.uncertainty_bytes),
            format_seconds(phase.seconds),
        )
        for phase in plan.phases
    ]
    low = sum(phase.seconds_low for phase in plan.phases)
    high = sum(phase.seconds_high for phase in plan.phases)
    total = f"{format_seconds(plan.seconds)} ({format_seconds(low)} to {format_seconds(high)})"
    rows.append(("in all", "", "", "", format_bytes(plan.peak_vram_bytes), "", total))
    return _table(rows)


def _component(component: ComponentPlan, *, on_cpu: bool) -> str:
    name = f"{COMPONENT_WORDS[component.name]:14}"
    if not component.weights_bytes:
        return f"{name}not loaded, as the prompt's embeddings are kept"
    precision = component.stored_as or _PRECISION_WORDS[component.precision]
    weights = f"{format_bytes(component.weights_bytes)} in {precision}"
    place = "in RAM" if on_cpu else "on the GPU"
    match component.placement:
        case Placement.RESIDENT:
            where = f"{place} all the time"
        case Placement.TURNS:
            where = f"{place} while in use" if component.device_bytes else "on the CPU"
        case Placement.STREAMED:
            where = (
                f"{len(component.streamed_blocks)} blocks come in as they are needed, "
                f"{format_bytes(component.device_bytes)} at once"
            )
            if component.file_blocks:
                where += f", {len(component.file_blocks)} of them from the disk"
    return f"{name}{weights}, {where}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns below each other, the last one left-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if index in {0, last} else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
