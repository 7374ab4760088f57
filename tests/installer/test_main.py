import re
import tomllib
from pathlib import Path

import pytest

from installer.__main__ import FIRST_TOO_NEW, OLDEST, version_problem

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_python_is_no_problem(version):
    assert version_problem(version) == ""


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 14), (4, 0)])
def test_other_python_gets_one_sentence_that_names_both(version):
    problem = version_problem(version)
    assert "3.11 to 3.13" in problem
    assert f"Python {version[0]}.{version[1]}" in problem
    assert "\n" not in problem


def test_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    numbers = re.findall(r"(\d+)\.(\d+)", project["requires-python"])
    assert [(int(major), int(minor)) for major, minor in numbers] == [OLDEST, FIRST_TOO_NEW]
