"""What we build on: written down, and on terms that fit an Apache-2.0 application."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PROJECT["project"]["optional-dependencies"]["dev"]
BUILD: list[str] = PROJECT["build-system"]["requires"]


def licence_of(package: metadata.Distribution) -> str:
    """All that a package says about its licence, in one text."""
    about = package.metadata.json
    if "license_expression" in about:
        return str(about["license_expression"])
    classifiers = [line for line in about.get("classifier", []) if line.startswith("License")]
    # The old field may hold the whole text; its first line has the name.
    return "; ".join(classifiers) or str(about.get("license", "")).partition("\n")[0]


def installed_closure(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """The packages that are installed because of some requirements, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        package = metadata.distribution(requirement.name)
        if package.name not in found:
            found[package.name] = package
            for chosen in requirement.extras or {""}:
                waiting += [(Requirement(line), chosen) for line in package.requires or []]
    return found


def test_range_of_installed_packages_is_the_one_in_the_project():
    for line in RUNTIME:
        requirement = Requirement(line)
        version = metadata.version(requirement.name)
        assert requirement.specifier.contains(version.partition("+")[0]), line


@pytest.mark.parametrize("line", [*RUNTIME, *DEVELOPMENT, *BUILD])
def test_dependency_is_written_down(line):
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert f"\n| {Requirement(line).name} |" in text


def test_nothing_is_written_down_that_is_not_used():
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| ([\w-]+) \| ", text, re.MULTILINE)) - {"Package"}
    assert named == {Requirement(line).name for line in (*RUNTIME, *DEVELOPMENT, *BUILD)}


def test_default_installation_has_no_gpl():
    closure = installed_closure(RUNTIME)
    assert len(closure) > len(RUNTIME)
    offered = {name: licence_of(package) for name, package in closure.items()}
    # A choice that includes the LGPL, as Qt offers it, is fine.
    copyleft = {
        name: text
        for name, text in offered.items()
        if re.search(r"\bA?GPL|GNU (Affero )?General Public", text)
        and not re.search(r"LGPL|Lesser General", text)
    }
    assert copyleft == {}


def test_every_package_names_its_licence():
    closure = installed_closure(RUNTIME)
    assert [name for name, package in closure.items() if not licence_of(package)] == []
