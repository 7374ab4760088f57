"""Coefficients of a model from dry runs of its networks."""

import importlib.metadata
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.core.policy import Precision
from app.engine.architecture import architecture_of
from app.engine.coefficients import (
    ModelCoefficients,
    cache_file,
    coefficients_for,
    decode_counts,
    denoise_counts,
)
from app.engine.forecast.dry_run import DryRun
from app.engine.forecast.fit import Point, fit_flops, fit_peak
from app.engine.forecast.model_spec import ModelSpec, spec_of
from app.engine.forecast.networks import DTYPES, count_parameters
from app.engine.lines import Lines
from app.engine.model_folder import ModelInfo

log = logging.getLogger(__name__)

Size = tuple[int, int]
_DENOISE_TERMS = (
    "1",
    "images",
    "tokens",
    "images*tokens",
    "reference_tokens",
    "images*reference_tokens",
)
_DENOISE_ONE_TERMS = ("1", "tokens", "reference_tokens")
_DENOISE_FLOP_TERMS = ("1", "images", "images*sequence", "images*sequence*sequence")
_DECODE_TERMS = ("1", "images", "images*tokens", "images*edge")
_DECODE_FLOP_TERMS = ("1", "images", "images*tokens", "images*tokens*tokens")
_REFERENCE_TERMS = ("1", "tokens", "edge")
_REFERENCE_FLOP_TERMS = ("1", "tokens", "tokens*tokens")
# One image is apart: some copies are then not needed.
_DENOISE_POINTS: tuple[tuple[int, Size, tuple[Size, ...]], ...] = (
    (2, (64, 64), ()),
    (3, (256, 512), ()),
    (2, (1024, 1024), ()),
    (5, (592, 1104), ()),
    (2, (2048, 2048), ()),
    (2, (64, 64), ((64, 64),)),
    (2, (64, 64), ((512, 512),)),
    (3, (256, 512), ((512, 512), (768, 512))),
    (2, (1024, 1024), ((256, 256),)),
    (5, (592, 1104), ((512, 256), (512, 512), (64, 64))),
    (2, (1536, 1536), ((512, 512),)),
    (7, (64, 1024), ((1024, 512),)),
)
_ONE_POINTS: tuple[tuple[int, Size, tuple[Size, ...]], ...] = (
    (1, (64, 64), ()),
    (1, (592, 1104), ()),
    (1, (2048, 2048), ()),
    (1, (64, 64), ((64, 64),)),
    (1, (64, 64), ((512, 512), (512, 512))),
    (1, (592, 1104), ((512, 512),)),
    (1, (1536, 1536), ((768, 512),)),
)
_DECODE_SIZES: tuple[tuple[int, Size], ...] = (
    (2, (64, 64)),
    (3, (256, 512)),
    (2, (1024, 1024)),
    (4, (592, 1104)),
    (3, (1536, 64)),
    (2, (2048, 2048)),
    (5, (512, 512)),
)
_REFERENCE_SIZES: tuple[Size, ...] = (
    (64, 64),
    (256, 512),
    (1024, 1024),
    (592, 1104),
    (512, 512),
    (1280, 800),
)
_DOMAIN_POINTS = 4000
_LARGEST_TOKENS = 512
"""Along an edge: 8192 px."""


def forecast_model(info: ModelInfo, cache_folder: Path) -> ModelCoefficients:
    """The coefficients of a model's folder: shipped, kept from before, or made now and kept.

    Raises:
        OSError: The configs cannot be read.
        ValueError: The libraries cannot build the networks from the configs.
    """
    found = coefficients_for(info, cache_folder)
    if found is not None:
        return found
    made = dry_run_coefficients(info)
    path = cache_file(info, made.architecture, cache_folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode(made))
    except OSError as error:
        log.info("the forecast of %s cannot be kept: %s", info.folder, error)
    return made


def dry_run_coefficients(info: ModelInfo) -> ModelCoefficients:
    """The coefficients of a model's folder, from its configs alone.

    Raises:
        OSError: The configs cannot be read.
        ValueError: The libraries cannot build the networks from the configs.
    """
    return make_coefficients(spec_of(info))


def make_coefficients(spec: ModelSpec) -> ModelCoefficients:
    """The coefficients of a model; takes some seconds."""
    runs = {precision: DryRun(spec, precision, shallow=True) for precision in DTYPES}
    whole = DryRun(spec, Precision.BF16)
    encoded = {precision: run.encode() for precision, run in runs.items()}
    decoded = {precision: _decode_points(run) for precision, run in runs.items()}
    references = {precision: _reference_points(run) for precision, run in runs.items()}
    denoised = [_denoise_point(whole, *point) for point in _DENOISE_POINTS if not point[2]]
    domain = _denoise_domain()
    return ModelCoefficients(
        name=spec.name,
        label=spec.label,
        guidance=spec.guidance.value,
        distilled=spec.distilled,
        default_steps=spec.default_steps,
        stored_precision=spec.stored_precision,
        made_with={name: importlib.metadata.version(name) for name in _LIBRARIES},
        architecture=architecture_of(spec.configs),
        networks={
            "text_encoder": count_parameters("text_encoder", whole.text_encoder),
            "transformer": count_parameters("transformer", whole.transformer),
            "autoencoder": count_parameters("autoencoder", whole.autoencoder),
        },
        encode={p: _constant(measured.working_bytes) for p, measured in encoded.items()},
        denoise_one={
            p: fit_peak(_DENOISE_ONE_TERMS, _denoise_points(run, _ONE_POINTS), domain)
            for p, run in runs.items()
        },
        denoise={
            p: fit_peak(_DENOISE_TERMS, _denoise_points(run, _DENOISE_POINTS), domain)
            for p, run in runs.items()
        },
        decode={
            p: fit_peak(_DECODE_TERMS, points, _decode_domain()) for p, points in decoded.items()
        },
        encode_reference={
            p: fit_peak(_REFERENCE_TERMS, points, _reference_domain())
            for p, points in references.items()
        },
        encode_flop=_constant(encoded[Precision.BF16].flops),
        denoise_flop=fit_flops(_DENOISE_FLOP_TERMS, denoised),
        decode_flop=fit_flops(_DECODE_FLOP_TERMS, decoded[Precision.BF16]),
        encode_reference_flop=fit_flops(_REFERENCE_FLOP_TERMS, references[Precision.BF16]),
    )


_LIBRARIES = ("torch", "diffusers", "transformers")


def _constant(value: int) -> Lines:
    return Lines(terms=("1",), lines=((float(value),),))


def _denoise_points(
    run: DryRun, points: Sequence[tuple[int, Size, tuple[Size, ...]]]
) -> list[Point]:
    return [_denoise_point(run, *point) for point in points]


def _denoise_point(run: DryRun, images: int, size: Size, references: tuple[Size, ...]) -> Point:
    width_px, height_px = size
    measured = run.denoise(
        images=images, width_px=width_px, height_px=height_px, references=references
    )
    return denoise_counts(images, width_px, height_px, references), measured


def _decode_points(run: DryRun) -> list[Point]:
    return [
        (
            decode_counts(images, width_px, height_px),
            run.decode(images=images, width_px=width_px, height_px=height_px),
        )
        for images, (width_px, height_px) in _DECODE_SIZES
    ]


def _reference_points(run: DryRun) -> list[Point]:
    return [
        (
            decode_counts(1, width_px, height_px),
            run.encode_reference(width_px=width_px, height_px=height_px),
        )
        for width_px, height_px in _REFERENCE_SIZES
    ]


def _denoise_domain() -> list[dict[str, float]]:
    def pick(choice: random.Random) -> dict[str, float]:
        tokens = _edge(choice) * _edge(choice)
        references = choice.choice((0, 0, 16, 1024, 4096, 12288, 40960))
        images = choice.choice((2, 3, 4, 8, 64))
        return {"images": images, "tokens": tokens, "reference_tokens": references}

    return _domain(pick)


def _decode_domain() -> list[dict[str, float]]:
    def pick(choice: random.Random) -> dict[str, float]:
        rows, columns = _edge(choice), _edge(choice)
        images = choice.choice((1, 2, 4, 8, 64))
        return {"images": images, "tokens": rows * columns, "edge": rows + columns}

    return _domain(pick)


def _reference_domain() -> list[dict[str, float]]:
    def pick(choice: random.Random) -> dict[str, float]:
        rows = choice.randint(4, 128)
        columns = choice.randint(4, max(4, 4096 // rows))
        return {"images": 1, "tokens": rows * columns, "edge": rows + columns}

    return _domain(pick)


def _domain(pick: Callable[[random.Random], dict[str, float]]) -> list[dict[str, float]]:
    choice = random.Random(0)
    return [pick(choice) for _ in range(_DOMAIN_POINTS)]


def _edge(choice: random.Random) -> int:
    """As many small sizes as large ones."""
    return round(2 ** choice.uniform(2, _LARGEST_TOKENS.bit_length() - 1))
