"""Coefficients of a model from dry runs of its networks."""

import importlib.metadata
import logging
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.engine.architecture import architecture_of
from app.engine.coefficients import ModelCoefficients, cache_file, coefficients_for, of_folder
from app.engine.forecast.model_spec import ModelSpec, spec_of
from app.engine.forecast.parts import PartMaker
from app.engine.model_folder import ModelInfo

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "diffusers", "transformers")


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
    try:
        write_atomic(cache_file(info, made.architecture, cache_folder), msgspec.json.encode(made))
    except OSError as error:
        log.info("the forecast of %s cannot be kept: %s", info.folder, error)
    return of_folder(made, info)


def dry_run_coefficients(info: ModelInfo) -> ModelCoefficients:
    """The coefficients of a model's folder, from its configs alone; takes some seconds.

    Raises:
        OSError: The configs cannot be read.
        ValueError: The libraries cannot build the networks from the configs.
    """
    return make_coefficients(spec_of(info), PartMaker())


def make_coefficients(spec: ModelSpec, parts: PartMaker) -> ModelCoefficients:
    """The coefficients of a model.

    Args:
        spec: Of the model.
        parts: Remembers networks that several models share.
    """
    text_encoder = parts.text_encoder(spec)
    transformer = parts.transformer(spec)
    autoencoder = parts.autoencoder(spec)
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
            "text_encoder": text_encoder.network,
            "transformer": transformer.network,
            "autoencoder": autoencoder.network,
        },
        encode=text_encoder.encode,
        denoise=transformer.denoise,
        denoise_with=transformer.denoise_with,
        denoise_quantized=transformer.quantized,
        decode=autoencoder.decode,
        encode_reference=autoencoder.reference,
        encode_flop=text_encoder.flop,
        denoise_flop=transformer.flop,
        decode_flop=autoencoder.decode_flop,
        encode_reference_flop=autoencoder.reference_flop,
    )
