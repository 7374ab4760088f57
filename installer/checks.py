"""All checks of the project, one after the other; a failing one does not hide the next."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from installer.environment import Environment
from installer.project import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One tool.

    Attributes:
        name: For people.
        command: Behind the environment's Python.
    """

    name: str
    command: tuple[str, ...]


CHECKS = (
    Check(name="format", command=("-m", "ruff", "format", "--check", ".")),
    Check(name="lint", command=("-m", "ruff", "check", ".")),
    Check(name="types", command=("-m", "pyright")),
    Check(
        name="imports",
        command=("-c", "from importlinter.cli import lint_imports_command as c; c()"),
    ),
)

IN_PARALLEL = ("--numprocesses=logical", "--maxprocesses=4", "--dist=worksteal")
"""More processes would rather run short of memory: each loads torch and starts engines."""


def run_checks(env: Environment, *, pytest_arguments: list[str], root: Path = ROOT) -> int:
    """Run the checks, then the tests; the result is the exit code.

    pytest comes last and prints straight through, so that its summary closes the output.
    """
    failed = [check.name for check in CHECKS if not _passes(env, check, root)]
    print("tests ...", flush=True)
    tests = [str(env.python), "-m", "pytest", *IN_PARALLEL, *pytest_arguments]
    exit_code = subprocess.run(tests, cwd=root, env=_variables(env), check=False).returncode
    if exit_code:
        failed.append("tests")
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def _passes(env: Environment, check: Check, root: Path) -> bool:
    started_s = time.monotonic()
    result = subprocess.run(
        [str(env.python), *check.command],
        cwd=root,
        env=_variables(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    elapsed_s = time.monotonic() - started_s
    if result.returncode:
        print(result.stdout.rstrip())
    word = "FAILED" if result.returncode else "passed"
    print(f"{check.name}: {word} ({elapsed_s:.1f} s)", flush=True)
    return result.returncode == 0


def _variables(env: Environment) -> dict[str, str]:
    """The environment's tools come first, as if it were activated."""
    path = os.pathsep.join((str(env.python.parent), os.environ.get("PATH", "")))
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": str(env.folder), "PYTHONUTF8": "1"}
