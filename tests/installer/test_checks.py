import sys
from pathlib import Path

import pytest

from installer import checks
from installer.checks import Check
from installer.environment import Environment

HERE = Environment(folder=Path(sys.prefix))
GOOD = Check(name="good", command=("-c", "print('quiet')"))
BAD = Check(name="bad", command=("-c", "print('what is wrong'); raise SystemExit(3)"))


@pytest.fixture
def project(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_one():\n    pass\n\ndef test_two():\n    pass\n")
    return tmp_path


def test_all_pass_and_the_tests_summary_comes_last(project, monkeypatch, capfd):
    monkeypatch.setattr(checks, "CHECKS", (GOOD, GOOD))
    assert checks.run_checks(HERE, pytest_arguments=[], root=project) == 0
    output = capfd.readouterr().out
    assert output.count("good: passed") == 2
    assert "quiet" not in output
    assert "2 passed" in output.strip().splitlines()[-1]


def test_failing_check_is_shown_and_does_not_hide_the_rest(project, monkeypatch, capfd):
    monkeypatch.setattr(checks, "CHECKS", (BAD, GOOD))
    assert checks.run_checks(HERE, pytest_arguments=["-k", "one"], root=project) == 1
    output, errors = capfd.readouterr()
    assert "what is wrong\nbad: FAILED" in output
    assert "good: passed" in output
    assert "1 passed in" in output.strip().splitlines()[-1]
    assert errors == "Failed: bad.\n"


def test_failing_tests_fail_the_run(project, monkeypatch, capfd):
    (project / "test_it.py").write_text("def test_one():\n    assert 0\n")
    monkeypatch.setattr(checks, "CHECKS", (GOOD,))
    assert checks.run_checks(HERE, pytest_arguments=[], root=project) == 1
    assert capfd.readouterr().err == "Failed: tests.\n"


def test_checks_are_those_of_the_project():
    assert [check.name for check in checks.CHECKS] == ["format", "lint", "types", "imports"]
