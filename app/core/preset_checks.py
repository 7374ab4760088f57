"""What is wrong with a preset's name, or with a file to import or export, in sentences."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from app.core.errors import OutputError, RequestError
from app.core.preset_file import MAX_FILE_BYTES, MAX_NAME_CHARACTERS, is_preset
from app.core.request import is_text

_SHOWN_CHARACTERS = 60


def shown(text: str) -> str:
    """The beginning of what somebody typed."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def checked_name(name: str) -> str:
    """The name without spaces around it.

    Raises:
        RequestError: It is no name for a preset.
    """
    name = name.strip()
    if not name:
        raise RequestError("The preset has no name: give it one.", code="preset.name")
    if not is_text(name) or not name.isprintable():
        raise RequestError(
            "The preset's name holds characters that cannot be shown: type it again.",
            code="preset.name",
        )
    if len(name) > MAX_NAME_CHARACTERS:
        raise RequestError(
            f"The preset's name is too long ({len(name)} characters): use up to "
            f"{MAX_NAME_CHARACTERS}.",
            code="preset.name",
        )
    return name


def bytes_to_import(path: Path) -> bytes:
    """A file's bytes, when it may be a preset.

    Raises:
        RequestError: It cannot be opened, or is something else.
    """
    where = shown(str(path))
    try:
        # Not a pipe or a device, which would be waited for.
        if os.path.exists(path) and not os.path.isfile(path):
            raise RequestError(f"{where} is no file.", code="preset.import")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    # ValueError: a name with a null character.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(
            f"{where} cannot be opened ({reason}): give a preset's .toml file.",
            code="preset.import",
        ) from error
    if len(data) > MAX_FILE_BYTES or not is_preset(data):
        raise RequestError(
            f"{where} is no preset: give a .toml file that “presets export” wrote.",
            code="preset.import",
        )
    return data


def export_target(path: Path) -> Path:
    """A file that can be made.

    Raises:
        RequestError: It exists, or its folder does not, or its name cannot be used.
    """
    if not is_text(str(path)) or "\0" in str(path):
        raise RequestError("The file's name is no text: give another.", code="preset.export")
    if os.path.lexists(path):
        raise file_exists(path)
    if not os.path.isdir(path.parent):
        raise RequestError(
            f"There is no folder {shown(str(path.parent))}: give a file in one that exists.",
            code="preset.export",
        )
    return path


def file_exists(path: Path) -> RequestError:
    """Nothing is replaced by an export."""
    return RequestError(
        f"{shown(str(path))} exists already: give another name.", code="preset.export"
    )


@contextlib.contextmanager
def writing(name: str) -> Generator[None]:
    """Turn what the disk says into a sentence about a preset."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The preset “{shown(name)}” cannot be written ({error.strerror or error}).",
            code="preset.write",
            details=str(error),
        ) from error
