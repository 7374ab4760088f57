"""`plan`: what a run would need, whether it fits, and what would."""

from dataclasses import replace

from app.cli.plan_arguments import PlanArguments
from app.cli.plan_json import plan_as_json, solution_as_json
from app.cli.plan_machine import Machine, machine_for
from app.cli.plan_request import planned_model, planned_request
from app.cli.plan_text import plan_as_text, solution_as_text
from app.cli.preset_in_use import model_key, preset_in_use, preset_of, with_typed
from app.cli.report import write_json
from app.cli.stderr import write_err
from app.cli.stdout import write_out
from app.core.errors import RequestError
from app.core.paths import app_paths
from app.core.policy import MemoryPolicy
from app.core.preset_folder import PresetEntry
from app.core.settings import SettingsStore
from app.core.units import GIB
from app.engine.catalog import Catalog
from app.engine.kept_for_runs import KeptFolders, look_up
from app.engine.planner import figures_of, plan_generation
from app.engine.solver import Solver

EXIT_OK = 0
RAM_NOT_TOLD = "RAM is taken to be plenty: give --ram-gib to have it counted."


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
    model = planned_model(arguments.model, Catalog(settings.model_folders))
    machine = machine_for(
        vram_gib=arguments.vram_gib,
        ram_gib=arguments.ram_gib,
        device=arguments.device or settings.device,
    )
    folder = None if model.info is None else model.info.folder
    entry = _preset(arguments, machine, model_key(arguments.model, folder))
    preset = preset_of(entry)
    request, references, notes = planned_request(arguments, model, preset)
    policy = _policy(preset.policy, arguments, on_cpu=machine.on_cpu)
    coefficients = model.coefficients
    folders = KeptFolders.of(
        app_paths(), keeps_embeddings=settings.keep_embeddings and arguments.prompt is not None
    )
    at_hand = look_up(model.info, request, machine.device, policy, folders)
    asked = (request, machine.device, machine.host, policy, coefficients, preset.limits)
    plan = plan_generation(*asked, references=references, at_hand=at_hand)
    told = (*notes, *(() if machine.ram_told else (RAM_NOT_TOLD,)))
    plan = replace(plan, reasons=(*plan.reasons, *told))
    solver = Solver(*asked, references=references, at_hand=at_hand)
    if arguments.as_json:
        figures = figures_of(plan, request, policy)
        line = plan_as_json(plan, machine, steps=request.steps, figures=figures)
        line["preset"] = None if entry is None else entry.name
        if arguments.solve:
            line["solve"] = solution_as_json(solver.what_fits())
        write_json(line)
    else:
        text = plan_as_text(plan, machine, coefficients.label, steps=request.steps, preset=entry)
        if arguments.solve:
            text += solution_as_text(solver.what_fits())
        write_out(text)
    return EXIT_OK


def _preset(arguments: PlanArguments, machine: Machine, model: str) -> PresetEntry | None:
    """The named preset, or the one in use on this machine; a described GPU has none."""
    if arguments.preset is None and machine.device.simulated:
        return None
    entry = preset_in_use(
        arguments.preset,
        gpu_name=None if machine.on_cpu else machine.device.name,
        vram_bytes=None if machine.on_cpu else machine.device.total_bytes,
        model=model,
    )
    for problem in () if entry is None else entry.problems:
        write_err(f"headroom: {problem}\n")
    return entry


def _policy(base: MemoryPolicy, arguments: PlanArguments, *, on_cpu: bool) -> MemoryPolicy:
    policy = with_typed(base, arguments, on_cpu=on_cpu)
    if arguments.tile_px is not None:
        policy = replace(policy, tile_px=arguments.tile_px)
    if arguments.limit_gib is None:
        return policy
    return replace(policy, limit_bytes=round(arguments.limit_gib * GIB))
