"""Reading a model folder's JSON files, whatever is in them."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.core.errors import ModelError

MAX_JSON_BYTES = 64 << 20
"""Configs have a few kilobytes; an index of a large text encoder a few hundred."""
_T = TypeVar("_T")


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
