"""The note in `.venv` that says what has been set up, so that nothing is done twice."""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from installer.environment import Environment
from installer.project import Project

STAMP_NAME = "headroom-setup.json"
RUNTIME = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What is complete.

    Attributes:
        fingerprints: `Project.fingerprint` by extra; `RUNTIME` is the one without an extra.
        torch_version: With its label, like "2.13.0+cu130".
        torch_reason: Why that build, in words.
        has_system_libraries: Whether Qt's libraries were all found.
    """

    fingerprints: dict[str, str] = field(default_factory=dict[str, str])
    torch_version: str = ""
    torch_reason: str = ""
    has_system_libraries: bool = False


def read_stamp(venv: Path) -> Stamp:
    """The note, or an empty one when there is none or it cannot be understood."""
    try:
        content: Any = json.loads((venv / STAMP_NAME).read_text(encoding="utf-8"))
        return Stamp(
            fingerprints={str(key): str(text) for key, text in content["fingerprints"].items()},
            torch_version=str(content["torch_version"]),
            torch_reason=str(content["torch_reason"]),
            has_system_libraries=content["has_system_libraries"] is True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Stamp()


def write_stamp(venv: Path, stamp: Stamp) -> None:
    """Write the note in one step, so that an interrupted set-up never looks complete."""
    partial = venv / f"{STAMP_NAME}.part"
    content = {
        "fingerprints": stamp.fingerprints,
        "torch_version": stamp.torch_version,
        "torch_reason": stamp.torch_reason,
        "has_system_libraries": stamp.has_system_libraries,
    }
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(venv / STAMP_NAME)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def is_complete(env: Environment, project: Project, *, extra: str) -> bool:
    """Whether everything for an extra (or `RUNTIME`) is installed and up to date."""
    wanted = project.fingerprint(extra=extra, python_version=env.python_version)
    return env.python.exists() and read_stamp(env.folder).fingerprints.get(extra) == wanted


def remove_stamp(venv: Path) -> None:
    """Take the note away; from now on set-up counts as unfinished."""
    with contextlib.suppress(FileNotFoundError):
        (venv / STAMP_NAME).unlink()
