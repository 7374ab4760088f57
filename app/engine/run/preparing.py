"""The load phase: what the model needs, the plan, and the weights."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from app.core.errors import EngineError, OutOfVramError
from app.core.events import Notice
from app.core.jobs import Job, Phase
from app.engine.coefficients import ModelCoefficients, coefficients_for
from app.engine.forecast.model_forecast import forecast_model
from app.engine.loader import LoadedModel
from app.engine.model_folder import ModelInfo, inspect_model_folder, stored_dtypes
from app.engine.pipeline import prompts_of
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.planning.precisions import as_stored_words
from app.engine.quantize.recipe import Recipe
from app.engine.run.attempts import Attempts
from app.engine.run.awaited_plan import Planned, plan_once_it_fits
from app.engine.run.context import RunContext
from app.engine.run.conversions import conversions_of
from app.engine.run.fast_blocks import with_attention
from app.engine.run.known_prompts import embeddings_for
from app.engine.run.loading import loading_told
from app.engine.run.model_shelf import file_blocks_of
from app.engine.run.phases import PhaseLog
from app.engine.run.plan_in_force import PlanInForce, planned
from app.engine.run.precisions import dtypes_of, recipes_of
from app.engine.run.profiles import profiles_of

log = logging.getLogger(__name__)

AS_STORED_CODE = "precision.as_stored"
LOADED_NOTE = "already loaded"
Sizes = tuple[tuple[int, int], ...]
MEASURED_NOTE = "measuring the model"
"""A model that is run for the first time and is none of the known ones takes some seconds more."""


def prepare(
    context: RunContext, phases: PhaseLog, attempts: Attempts, references: Sizes = ()
) -> LoadedModel:
    """Plan the run and have the model ready; the plan is then `attempts.force`.

    Args:
        context: The run.
        phases: Told of this one.
        attempts: Carry it out.
        references: Width and height of each reference image.

    Raises:
        ModelError: The folder's model cannot be used.
        OutOfVramError: The request does not fit, or memory ran out for good.
    """
    folder = Path(context.job.model_folder)
    info = inspect_model_folder(folder)
    kept = context.shelf.find(folder)
    loaded = kept is not None and not _lacks_text_encoder(context, kept)
    coefficients = coefficients_for(info, context.forecast_cache)
    note = LOADED_NOTE if loaded else ""
    if coefficients is None:
        note = MEASURED_NOTE
    else:
        attempts.force = _plan(context, attempts, info, coefficients, references, loaded=loaded)
    with phases.during(Phase.LOAD, note=note, idle=bool(note)):
        attempts.begin_phase()
        if attempts.force is None:
            coefficients = _measured(info, context.forecast_cache)
            attempts.force = _plan(context, attempts, info, coefficients, references, loaded=loaded)
        return _load(context, attempts, info, kept)


def _plan(
    context: RunContext,
    attempts: Attempts,
    info: ModelInfo,
    coefficients: ModelCoefficients,
    references: Sizes,
    *,
    loaded: bool,
) -> PlanInForce:
    def planner(job: Job, *, alone: bool = False) -> Planned:
        device, host = profiles_of(context.device, context.store)
        if alone:
            device = replace(device, free_bytes=device.total_bytes)
        return planned(job, device, host, coefficients, references=references, loaded=loaded)

    job = with_attention(context, info)
    problem, plan = plan_once_it_fits(context, attempts.wait, job, planner)
    plan = replace(plan, attention=job.policy.attention)
    force = PlanInForce(context.job, problem, plan, context.send)
    as_stored = as_stored_words(coefficients, job.policy)
    if as_stored:
        context.send(Notice(job_id=job.id, code=AS_STORED_CODE, message=as_stored))
    return force


def _measured(info: ModelInfo, cache: Path) -> ModelCoefficients:
    try:
        return forecast_model(info, cache)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"What the model in {info.folder} needs cannot be found out: "
            "check that its configs are unchanged.",
            code="engine.forecast",
            details=f"{type(error).__name__}: {error}",
        ) from error


def _load(
    context: RunContext, attempts: Attempts, info: ModelInfo, kept: LoadedModel | None
) -> LoadedModel:
    force, shelf = attempts.force, context.shelf
    if force is None:
        raise RuntimeError("there is no plan to load for")
    dtypes = dtypes_of(force.plan, context.job.policy, stored_dtypes(info.folder), context.device)
    recipes = recipes_of(force.plan)
    quantized = {name: recipe.precision for name, recipe in recipes.items()}
    model = kept
    if model is None or model.dtypes != dtypes or model.quantized != quantized:
        model = _read(context, attempts, force, info, dtypes, recipes)
    elif _lacks_text_encoder(context, model):
        conversion = conversions_of(context, info, recipes).get("text_encoder")

        def load_text_encoder() -> None:
            with loading_told(context, force, {TEXT_ENCODER}) as told:
                shelf.load_text_encoder(
                    context.cancel.check,
                    conversion=conversion,
                    file_blocks=file_blocks_of(force.plan),
                    progress=told,
                )

        attempts.run(Phase.LOAD, load_text_encoder, rungs=False)
    if not shelf.has_text_encoder():
        # What a run without it needs says nothing about plans, which reckon with it.
        force.touched.update(Phase)
    attempts.run(Phase.LOAD, attempts.place)
    has_room = force.plan.phase(Phase.LOAD).working_bytes > 0
    if context.job.previews and model.preview_matrix is None and has_room:
        _fit_previews(context, attempts, model)
    return model


def _read(
    context: RunContext,
    attempts: Attempts,
    force: PlanInForce,
    info: ModelInfo,
    dtypes: Mapping[str, torch.dtype],
    recipes: Mapping[str, Recipe],
) -> LoadedModel:
    """A model from its files; without its text encoder when the prompts were encoded before."""
    conversions = conversions_of(context, info, recipes)
    embeddings = attempts.run(
        Phase.LOAD, lambda: embeddings_for(context, info, dtypes, recipes), rungs=False
    )
    needed = embeddings.needs_text_encoder(prompts_of(info, context.job.request))
    read = {TRANSFORMER, TEXT_ENCODER} if needed else {TRANSFORMER}

    def load() -> LoadedModel:
        with loading_told(context, force, read) as told:
            return context.shelf.load(
                info,
                dtypes,
                context.cancel.check,
                conversions=conversions,
                needs_text_encoder=needed,
                file_blocks=file_blocks_of(force.plan),
                progress=told,
            )

    model = attempts.run(Phase.LOAD, load, rungs=False)
    model.embeddings = embeddings
    return model


def _lacks_text_encoder(context: RunContext, model: LoadedModel) -> bool:
    prompts = prompts_of(model.info, context.job.request)
    return not context.shelf.has_text_encoder() and model.embeddings.needs_text_encoder(prompts)


def _fit_previews(context: RunContext, attempts: Attempts, model: LoadedModel) -> None:
    def fit() -> None:
        attempts.place()
        with context.device.watch(Phase.LOAD):
            context.shelf.fit_previews(model)

    try:
        attempts.run(Phase.LOAD, fit, rungs=False)
    except OutOfVramError as error:
        log.info("there is no memory for previews: %s", error)
