import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from installer import commands
from installer.environment import Environment
from installer.project import read_project
from installer.stamp import RUNTIME, Stamp, write_stamp

ROOT = Path(__file__).resolve().parents[2]

# Takes the place of the environment's Python and tells how it was started.
APP = '#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n'


@pytest.fixture
def ready_env(tmp_path):
    """An environment that set-up would find complete."""
    env = Environment(folder=tmp_path / "venv")
    env.python.parent.mkdir(parents=True)
    env.python.write_text(APP)
    env.python.chmod(0o755)
    (env.folder / "pyvenv.cfg").write_text("version = 3.11.7\n")
    print_of = read_project().fingerprint(extra=RUNTIME, python_version="3.11.7")
    write_stamp(env.folder, Stamp(fingerprints={RUNTIME: print_of}, has_system_libraries=True))
    return env


def start(env, *arguments, options=()):
    return subprocess.run(
        [sys.executable, *options, "-m", "installer", *arguments],
        cwd=ROOT,
        env={**os.environ, "HEADROOM_VENV": str(env.folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_run_passes_arguments_and_exit_code_through(ready_env):
    result = start(ready_env, "run", "generate", "--prompt", "a red circle", "--help", "")
    assert result.stdout == "<-m><app><generate><--prompt><a red circle><--help><>"
    assert result.returncode == 7
    assert result.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_everyday_run_loads_nothing_of_set_up(ready_env):
    result = start(ready_env, "run", options=("-X", "importtime"))
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "installer.commands" in loaded
    assert not loaded & {"installer.setup", "installer.torch_stage", "urllib.request", "ctypes"}


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_window_without_system_libraries_does_not_start_but_the_command_line_does(
    ready_env, monkeypatch, capfd
):
    monkeypatch.setenv("HEADROOM_VENV", str(ready_env.folder))
    monkeypatch.setattr(commands, "_missing_libraries", lambda _: "type this")
    started: list[list[str]] = []

    def pretend_start(command: list[str]) -> int:
        started.append(command)
        return 0

    monkeypatch.setattr(commands, "_start", pretend_start)
    assert commands.main(["run"]) == 1
    assert started == []
    assert commands.main(["run", "doctor"]) == 0
    assert started == [[str(ready_env.python), "-m", "app", "doctor"]]
    assert capfd.readouterr().err == "type this\ntype this\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_the_commands(arguments, capsys):
    assert commands.main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} [" in text for name in ("run", "test", "setup"))


@pytest.mark.parametrize("arguments", [["rum"], ["setup", "--touch", "cpu"], ["setup", "cpu"]])
def test_unknown_command_gets_the_usage(arguments, capsys):
    assert commands.main(arguments) == 2
    assert "usage: python -m installer" in capsys.readouterr().err


def test_unknown_build_is_refused(capsys):
    assert commands.main(["setup", "--torch", "metal"]) == 2
    assert "'metal' is no PyTorch build" in capsys.readouterr().err


def test_interrupt_says_that_it_can_go_on(monkeypatch, capsys):
    def interrupted(**_: object) -> Environment:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_ready_environment", interrupted)
    assert commands.main(["run"]) == 130
    assert "continues where it stopped" in capsys.readouterr().err


def test_project_fingerprint_is_stable_between_reads():
    first, second = read_project(), read_project()
    assert first == second
    assert first.fingerprint(extra="dev", python_version="3.11.7") == second.fingerprint(
        extra="dev", python_version="3.11.7"
    )
    assert replace(first, root=Path("/elsewhere")) != first


def test_torch_range_is_found_in_the_project():
    assert read_project().specifier("torch").startswith(">=2.")
    assert read_project().specifier("tor") == ""
