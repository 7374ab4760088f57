"""What `pyproject.toml` says, and a fingerprint of the part that set-up depends on."""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Goes up when set-up itself does something more, so that it runs once more everywhere.
_SETUP_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A checkout of the project.

    Attributes:
        root: Its folder.
        python: Supported Pythons, like ">=3.11,<3.14".
        dependencies: Requirements, like "torch>=2.9,<2.14".
        extras: Requirements by extra.
        build: Everything else that changes what an installation does.
    """

    root: Path
    python: str
    dependencies: tuple[str, ...]
    extras: dict[str, tuple[str, ...]]
    build: tuple[str, ...]

    def specifier(self, name: str) -> str:
        """The version range of one requirement; empty when any version will do."""
        for requirement in self.dependencies:
            if requirement.startswith(name) and requirement[len(name) :][:1] in "<>=!~ ":
                return requirement[len(name) :].strip()
        return ""

    def fingerprint(self, *, extra: str, python_version: str) -> str:
        """Changes whenever an environment with this extra has to be brought up to date."""
        parts = [
            _SETUP_FORMAT,
            # An editable installation points at its folder, so a moved project is set up anew.
            str(self.root),
            python_version,
            self.dependencies,
            self.extras.get(extra, ()),
            self.build,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_project(root: Path = ROOT) -> Project:
    """Read `pyproject.toml` in a folder."""
    with (root / "pyproject.toml").open("rb") as file:
        content: dict[str, Any] = tomllib.load(file)
    about: dict[str, Any] = content["project"]
    extras: dict[str, list[str]] = about.get("optional-dependencies", {})
    build = [about.get("scripts", {}), about.get("gui-scripts", {}), content["build-system"]]
    return Project(
        root=root,
        python=str(about["requires-python"]),
        dependencies=tuple(about["dependencies"]),
        extras={name: tuple(requirements) for name, requirements in extras.items()},
        build=tuple(json.dumps(part, sort_keys=True) for part in build),
    )
