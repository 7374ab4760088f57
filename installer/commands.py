"""The commands behind `python -m installer`."""

import os
import sys

from installer.environment import Environment, environment
from installer.failures import SetupFailedError
from installer.project import read_project
from installer.stamp import RUNTIME, is_complete, read_stamp

USAGE = """\
usage: python -m installer COMMAND [arguments]

  run [arguments]    set up what is missing, then start Headroom; arguments go to the app:
                     run                        the window
                     run generate --prompt ...  the command line; `run --help` lists its verbs
  test [arguments]   set up what is missing, then run all checks; arguments go to pytest
  setup [--torch X]  look at the machine again and bring everything up to date; X is a name under
                     PyTorch's wheel index (cpu, cu126, cu130, rocm7.1, xpu, ...) instead of the
                     one chosen for this machine

The environment is .venv in the project, or the folder that HEADROOM_VENV names.
"""
INTERRUPTED_EXIT_CODE = 130


def main(arguments: list[str]) -> int:
    """Run one command; the result is the exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0
    commands = {"run": run, "test": test, "setup": setup}
    if command not in commands:
        print(f"There is no command {command!r}.\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    try:
        return commands[command](rest)
    except SetupFailedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command continues where it stopped.", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE


def run(arguments: list[str]) -> int:
    """Start the app, after set-up if something is missing."""
    env = _ready_environment(extra=RUNTIME)
    advice = _missing_libraries(env)
    if advice:
        print(advice, file=sys.stderr)
        # The command line works without a screen, and so without these.
        if not arguments:
            return 1
    return _start([str(env.python), "-m", "app", *arguments])


def test(arguments: list[str]) -> int:
    """Run all checks, after set-up if something is missing."""
    env = _ready_environment(extra="dev")
    advice = _missing_libraries(env)
    if advice:
        print(advice, file=sys.stderr)
        return 1
    from installer.checks import run_checks

    return run_checks(env, pytest_arguments=arguments)


def setup(arguments: list[str]) -> int:
    """Go through all stages of set-up once more."""
    from installer.console import Console
    from installer.setup import set_up
    from installer.torch_build import TorchChoice, named_choice

    choice: TorchChoice | None = None
    if arguments:
        if len(arguments) != 2 or arguments[0] != "--torch":
            print(USAGE, end="", file=sys.stderr)
            return 2
        try:
            choice = named_choice(arguments[1])
        except ValueError:
            print(
                f"{arguments[1]!r} is no PyTorch build; try cpu, cu126, cu130, rocm7.1 or xpu.",
                file=sys.stderr,
            )
            return 2
    env, project = environment(), read_project()
    set_up(env, project, Console(), extra=RUNTIME, choice=choice, is_forced=True)
    advice = _missing_libraries(env)
    print(advice or "Ready: start Headroom with `python -m installer run`.", file=sys.stderr)
    return 1 if advice else 0


def _ready_environment(*, extra: str) -> Environment:
    env, project = environment(), read_project()
    if not is_complete(env, project, extra=extra):
        # Not at the top: the everyday start has nothing to set up and should not wait for these.
        from installer.console import Console
        from installer.setup import set_up

        console = Console()
        console.say(f"Setting up Headroom in {env.folder}; the first time takes some minutes.")
        set_up(env, project, console, extra=extra)
    return env


def _missing_libraries(env: Environment) -> str:
    if sys.platform != "linux" or read_stamp(env.folder).has_system_libraries:
        return ""
    from installer.console import Console
    from installer.setup import ensure_system_libraries

    return ensure_system_libraries(env, Console())


def _start(command: list[str]) -> int:
    """Become the app; on Windows, wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    import subprocess

    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl+C went to the app as well; it decides what that means.
            continue
