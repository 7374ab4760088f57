"""What `plan` plans: the model, and a request with the defaults of preset and model."""

from dataclasses import dataclass

from app.cli.plan_arguments import PlanArguments
from app.cli.references import planned_sizes
from app.core.errors import ModelError, RequestError
from app.core.paths import app_paths
from app.core.preset import Preset
from app.core.request import (
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SIZE_MULTIPLE_PX,
    GenerationRequest,
    rounded_size_px,
)
from app.engine.catalog import KNOWN_MODELS, Catalog
from app.engine.coefficients import ModelCoefficients, coefficients_for, shipped_coefficients
from app.engine.model_folder import ModelInfo

PROMPT = "."
"""What is drawn does not change what is needed: prompts are padded to one length."""
MIN_TILE_PX = 128
"""Smaller tiles are more overlap than picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """What is planned, and its defaults.

    Attributes:
        coefficients: What it needs.
        width_px: Of its images.
        height_px: Of its images.
        guidance: Its scale.
        info: Of its folder; None where it is not installed.
    """

    coefficients: ModelCoefficients
    width_px: int
    height_px: int
    guidance: float
    info: ModelInfo | None


def planned_model(name_or_folder: str, catalog: Catalog) -> PlannedModel:
    """What is known of a model; of the known ones also where they are not installed.

    Raises:
        ModelError: There is no such model, or nothing is known about it yet.
    """
    name = name_or_folder.strip().lower()
    known = next((known for known in KNOWN_MODELS if known.name == name), None)
    shipped = shipped_coefficients(name)
    if known is not None and shipped is not None:
        return PlannedModel(
            coefficients=shipped,
            width_px=known.default_size_px,
            height_px=known.default_size_px,
            guidance=known.default_guidance,
            info=_installed(name, catalog),
        )
    info = catalog.resolve(name_or_folder)
    found = coefficients_for(info, app_paths().forecast_cache)
    if found is None:
        raise ModelError(
            f"What {info.label} needs is not known yet: generate one image with it, which measures "
            "the model, then plan again.",
            code="model.not_measured",
        )
    return PlannedModel(
        coefficients=found,
        width_px=info.default_width_px,
        height_px=info.default_height_px,
        guidance=info.default_guidance,
        info=info,
    )


def planned_request(
    arguments: PlanArguments, model: PlannedModel, preset: Preset
) -> tuple[GenerationRequest, tuple[tuple[int, int], ...], list[str]]:
    """The request, sizes of its references, and sentences about what is not exactly as typed.

    Raises:
        RequestError: It cannot be planned; the sentence names everything that is wrong.
    """
    notes: list[str] = []
    steps = preset.steps if arguments.steps is None else arguments.steps
    guidance = preset.guidance if arguments.guidance is None else arguments.guidance
    request = GenerationRequest(
        prompt=PROMPT if arguments.prompt is None else arguments.prompt,
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


def _installed(name: str, catalog: Catalog) -> ModelInfo | None:
    try:
        return catalog.resolve(name)
    except ModelError:
        return None


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
