"""Where every process of ours begins: the window, a command, or an engine.

Each of the three imports only what it needs: the window never sees torch, a command never sees Qt,
an engine sees neither Qt nor the command line.
"""

import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

VERBS = ("generate", "plan", "doctor", "models", "presets", "bench")
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
_CANCELLED_JSON = '{"event": "error", "code": "cancelled", "message": "Cancelled."}'
"""Without json itself, which the window does not need at its start."""
_WINDOW_PACKAGES = frozenset({"PySide6", "shiboken6", "pyqtgraph"})


def main() -> int:
    """Run what the arguments ask for and return the exit code of the process."""
    arguments = sys.argv[1:]
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # Ctrl+C while our modules are still loaded; what runs then tells of it by itself.
        return _interrupted(arguments)


def _run(arguments: list[str]) -> int:
    # First, so that a crash in native code below leaves its stack; a windowed start has no stderr.
    if sys.stderr is not None:
        faulthandler.enable()
    if "--engine-worker" in arguments:
        _run_engine(arguments)
    if is_command(arguments):
        # Lazy here and below: each start loads only its own part.
        from app.cli import main as command_main

        return command_main(arguments)
    return _open_window(arguments)


def is_command(arguments: list[str]) -> bool:
    """Whether the arguments are for the command line; else they are files to open in the window.

    A word that is neither a verb nor a file goes to the command line, which says what it knows.
    The window itself has no options.
    """
    if not arguments:
        return False
    first = arguments[0]
    return first in VERBS or not Path(first).exists()


def has_screen(platform: str, environment: Mapping[str, str]) -> bool:
    """Whether a window can be shown, as far as the environment tells."""
    if not platform.startswith("linux"):
        return True
    # Whoever chooses Qt's platform knows what they do: some of them need no screen.
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))


def _run_engine(arguments: list[str]) -> NoReturn:
    from app.engine.worker import main as engine_main

    exit_code = engine_main(arguments)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Unloading torch takes seconds on a busy machine, in which the window waits to close, and
    # there is nothing left to save.
    os._exit(exit_code)


def _open_window(arguments: list[str]) -> int:
    if not has_screen(sys.platform, os.environ):
        # Qt would end the process, with a stack that helps nobody.
        _complain(
            "The window cannot be opened: there is no screen (neither DISPLAY nor WAYLAND_DISPLAY "
            "is set). The command line works without one, see “headroom --help”."
        )
        return 1
    try:
        from app.main import main as window_main
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _WINDOW_PACKAGES:
            raise
        _complain(
            f"The window cannot be opened ({error}). Run “headroom doctor” to see what is missing; "
            "the command line works without it, see “headroom --help”."
        )
        return 1
    return window_main(arguments)


def _interrupted(arguments: list[str]) -> int:
    # A stream may be closed, or read by nobody any more.
    with contextlib.suppress(OSError, ValueError):
        if "--json" not in arguments:
            _complain("headroom: Cancelled.")
        elif sys.stdout is not None:
            sys.stdout.write(_CANCELLED_JSON + "\n")
            sys.stdout.flush()
    return EXIT_INTERRUPTED


def _complain(sentence: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(sentence + "\n")


if __name__ == "__main__":
    sys.exit(main())
