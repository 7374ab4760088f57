"""`plan`: what a run would need, whether it fits, and what would."""

from dataclasses import dataclass, replace

from app.cli.argument_types import precisions
from app.cli.plan_arguments import PlanArguments
from app.cli.plan_json import plan_as_json, solution_as_json
from app.cli.plan_machine import Machine, machine_for
from app.cli.plan_text import plan_as_text, solution_as_text
from app.cli.references import planned_sizes
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.errors import ModelError, RequestError
from app.core.paths import app_paths
from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryPolicy, Precisions
from app.core.request import (
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SIZE_MULTIPLE_PX,
    GenerationRequest,
    rounded_size_px,
)
from app.core.settings import SettingsStore
from app.core.units import GIB, format_bytes
from app.engine.catalog import KNOWN_MODELS, Catalog
from app.engine.coefficients import ModelCoefficients, coefficients_for, shipped_coefficients
from app.engine.planner import figures_of, plan_generation
from app.engine.planning.precisions import file_bytes
from app.engine.quantize.recipe import QUANTIZED
from app.engine.solver import Solver

EXIT_OK = 0
PROMPT = "."
"""What is drawn does not change what is needed: prompts are padded to one length."""
MIN_TILE_PX = 128
"""Smaller tiles are more overlap than picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is planned, and its defaults."""

    coefficients: ModelCoefficients
    width_px: int
    height_px: int
    guidance: float


def run_plan(arguments: PlanArguments) -> int:
    """Make the plan and tell it; returns the exit code.

    Raises:
        RequestError: The arguments cannot be used.
        ModelError: There is no such model, or nothing is known about it yet.
        SetupError: This machine has no such device.
    """
    if arguments.vram_gib is not None and arguments.device is not None:
        raise RequestError(
            "--vram-gib describes a GPU, and --device names one of this machine: give one of them.",
            code="request.device",
        )
    settings = SettingsStore(app_paths().settings_file).load()
    model = _model(arguments.model, Catalog(settings.model_folders))
    request, references, notes = _request(arguments, model)
    machine = machine_for(
        vram_gib=arguments.vram_gib,
        ram_gib=arguments.ram_gib,
        device=arguments.device or settings.device,
    )
    policy = _policy(arguments, on_cpu=machine.device.kind == "cpu")
    plan = plan_generation(
        request, machine.device, machine.host, policy, model.coefficients, references=references
    )
    told = (*notes, *_assumptions(machine, plan, model.coefficients))
    plan = replace(plan, reasons=(*plan.reasons, *told))
    solver = Solver(
        request, machine.device, machine.host, policy, model.coefficients, references=references
    )
    if arguments.as_json:
        figures = figures_of(plan, request, policy)
        line = plan_as_json(plan, machine, steps=request.steps, figures=figures)
        if arguments.solve:
            line["solve"] = solution_as_json(solver.what_fits())
        write_json(line)
    else:
        text = plan_as_text(plan, machine, model.coefficients.label, steps=request.steps)
        if arguments.solve:
            text += solution_as_text(solver.what_fits())
        write_out(text)
    return EXIT_OK


def _model(name_or_folder: str, catalog: Catalog) -> _Model:
    """What is known of a model; of the known ones also where they are not installed."""
    name = name_or_folder.strip().lower()
    known = next((known for known in KNOWN_MODELS if known.name == name), None)
    shipped = shipped_coefficients(name)
    if known is not None and shipped is not None:
        size_px = known.default_size_px
        return _Model(
            coefficients=shipped,
            width_px=size_px,
            height_px=size_px,
            guidance=known.default_guidance,
        )
    info = catalog.resolve(name_or_folder)
    found = coefficients_for(info, app_paths().forecast_cache)
    if found is None:
        raise ModelError(
            f"What {info.label} needs is not known yet: generate one image with it, which measures "
            "the model, then plan again.",
            code="model.not_measured",
        )
    return _Model(
        coefficients=found,
        width_px=info.default_width_px,
        height_px=info.default_height_px,
        guidance=info.default_guidance,
    )


def _request(
    arguments: PlanArguments, model: _Model
) -> tuple[GenerationRequest, tuple[tuple[int, int], ...], list[str]]:
    """The request, sizes of its references, and sentences about what is not exactly as typed.

    Raises:
        RequestError: It cannot be planned; the sentence names everything that is wrong.
    """
    notes: list[str] = []
    steps, guidance = arguments.steps, arguments.guidance
    request = GenerationRequest(
        prompt=PROMPT,
        model=model.coefficients.name,
        width_px=_size(arguments.width_px, model.width_px, "width", notes),
        height_px=_size(arguments.height_px, model.height_px, "height", notes),
        steps=model.coefficients.default_steps if steps is None else steps,
        guidance=model.guidance if guidance is None else guidance,
        images=arguments.images,
    )
    # A size out of range may also be no multiple of 16, which nobody needs to hear as well.
    wrong = {problem.field: problem for problem in reversed(request.problems())}
    sentences = [problem.message for problem in reversed(wrong.values())]
    codes = [problem.code for problem in reversed(wrong.values())]
    references: tuple[tuple[int, int], ...] = ()
    try:
        references = planned_sizes(arguments.references, arguments.reference)
    except RequestError as error:
        sentences.append(error.message)
        codes.append(error.code)
    tile = arguments.tile_px
    if tile is not None and tile != 0 and not MIN_TILE_PX <= tile <= MAX_SIZE_PX:
        sentences.append(
            f"The decode tile is {tile} px: choose {MIN_TILE_PX} to {MAX_SIZE_PX} px, "
            "or 0 to decode whole."
        )
        codes.append("request.tile")
    if sentences:
        raise RequestError(" ".join(sentences), code=codes[0])
    return request, references, notes


def _size(typed: int | None, default: int, name: str, notes: list[str]) -> int:
    if typed is None or not MIN_SIZE_PX <= typed <= MAX_SIZE_PX:
        return default if typed is None else typed
    rounded = rounded_size_px(typed)
    if rounded != typed:
        notes.append(
            f"The {name} is {rounded} px instead of {typed} px: "
            f"FLUX.2 makes multiples of {SIZE_MULTIPLE_PX}."
        )
    return rounded


def _policy(arguments: PlanArguments, *, on_cpu: bool) -> MemoryPolicy:
    policy = MemoryPolicy(
        limit_bytes=_bytes(arguments.limit_gib),
        mode=arguments.mode,
        strict=arguments.strict,
        tile_px=arguments.tile_px,
        precisions=precisions(arguments.precision, Precisions()),
    )
    headroom = _bytes(arguments.headroom_gib)
    if headroom is None:
        return policy
    if on_cpu:
        return replace(policy, ram_headroom_bytes=headroom)
    return replace(policy, headroom_bytes=headroom)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else round(gib * GIB)


def _assumptions(
    machine: Machine, plan: GenerationPlan, coefficients: ModelCoefficients
) -> list[str]:
    found: list[str] = []
    if not machine.ram_told:
        found.append("RAM is taken to be plenty: give --ram-gib to have it counted.")
    quantized = [part for part in plan.components if part.precision in QUANTIZED]
    if quantized and plan.verdict is not Verdict.DOES_NOT_FIT:
        stored = coefficients.stored_precision
        read = sum(file_bytes(coefficients, part.name, stored) for part in quantized)
        kept = sum(file_bytes(coefficients, part.name, part.precision) for part in quantized)
        found.append(
            f"Before the first run the weights are converted once: {format_bytes(read)} are read, "
            f"and {format_bytes(kept)} are kept on the disk."
        )
    return found
