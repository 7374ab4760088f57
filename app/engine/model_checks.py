"""Reading a model folder's JSON files, and naming models that are not FLUX.2."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.core.errors import ModelError

MAX_JSON_BYTES = 64 << 20
"""Configs have a few kilobytes; an index of a large text encoder a few hundred."""
GET_A_FOLDER = (
    "choose a folder in diffusers layout (with model_index.json, transformer, vae, text_encoder, "
    "tokenizer and scheduler)"
)
_T = TypeVar("_T")

# Longest prefix first where one contains another.
_FOREIGN_MODELS: tuple[tuple[str, str], ...] = (
    ("StableDiffusionXL", "Stable Diffusion XL (SDXL)"),
    ("StableDiffusion3", "Stable Diffusion 3"),
    ("StableDiffusion", "Stable Diffusion 1.5 or 2"),
    ("StableCascade", "Stable Cascade"),
    ("StableVideoDiffusion", "Stable Video Diffusion"),
    ("FluxKontext", "FLUX.1 Kontext"),
    ("FluxFill", "FLUX.1 Fill"),
    ("Flux", "FLUX.1"),
    ("QwenImage", "Qwen-Image"),
    ("ZImage", "Z-Image"),
    ("PixArt", "PixArt"),
    ("Sana", "Sana"),
    ("Kandinsky", "Kandinsky"),
    ("Kolors", "Kolors"),
    ("HunyuanDiT", "Hunyuan-DiT"),
    ("HunyuanImage", "HunyuanImage"),
    ("HunyuanVideo", "HunyuanVideo"),
    ("CogVideoX", "CogVideoX"),
    ("CogView", "CogView"),
    ("AuraFlow", "AuraFlow"),
    ("Chroma", "Chroma"),
    ("HiDream", "HiDream"),
    ("Lumina", "Lumina"),
    ("OmniGen", "OmniGen"),
    ("Bria", "Bria"),
    ("LTX", "LTX-Video"),
    ("Mochi", "Mochi"),
    ("Wan", "Wan"),
)


def foreign_model(class_name: str) -> str | None:
    """Name of the model a pipeline class of diffusers belongs to; None when we do not know it."""
    if class_name.startswith("Flux2"):
        return None
    for prefix, name in _FOREIGN_MODELS:
        if class_name.startswith(prefix):
            return name
    return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        ModelError: The file is missing, cannot be read, or holds no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise _broken(path, "file too large")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise missing_file(path) from error
    except OSError as error:
        raise ModelError(
            f"The model's file {path} cannot be read ({error.strerror or error}): "
            "check the disk and the file's permissions.",
            code="model.unreadable",
        ) from error
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, str(error)) from error


def convert_config(values: dict[str, Any], kind: type[_T], path: Path) -> _T:
    """A config's values as a typed object; keys we do not use are ignored.

    Raises:
        ModelError: A value is missing or of the wrong type.
    """
    try:
        return msgspec.convert(values, type=kind)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"The config {path} cannot be used ({error}): "
            "download it again from the model's source.",
            code="model.unknown_config",
        ) from error


def missing_file(path: Path) -> ModelError:
    """The error for a file or folder that a model must have."""
    what = "folder" if not path.suffix else "file"
    return ModelError(
        f"The model lacks its {what} {path}: download the whole model folder again.",
        code="model.file_missing",
    )


def _broken(path: Path, details: str) -> ModelError:
    return ModelError(
        f"The model's file {path} is not valid JSON: download it again from the model's source.",
        code="model.broken_json",
        details=details,
    )
