"""The command line: generate, plan, presets, ...; it needs no screen, no Qt and no torch here."""

import io
import logging
import sys

from app.cli.arguments import parse
from app.cli.bench import run_bench
from app.cli.calibrate import run_calibrate
from app.cli.doctor import run_doctor
from app.cli.generate import run_generate
from app.cli.models import run_models
from app.cli.models_kept import run_remove_kept
from app.cli.plan import run_plan
from app.cli.presets import run_presets
from app.cli.report import write_json
from app.cli.stderr import write_err
from app.cli.stdout import StdoutError, silence_stdout, write_out
from app.core.errors import AppError, ErrorInfo, RequestError, describe
from app.core.log import set_up_logging
from app.core.paths import app_paths

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_ARGUMENTS = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main(argv: list[str]) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Arguments after the program's name.
    """
    for stream in (sys.stdout, sys.stderr):
        # A path may hold characters that the terminal's encoding lacks; that must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run_and_tell(argv)
        if sys.stdout is not None:
            write_out("")  # Also what others wrote there, such as the help.
    except BrokenPipeError:
        silence_stdout()
        return EXIT_FAILURE
    except StdoutError as error:
        silence_stdout()
        write_err(f"headroom: {error}\n")
        return EXIT_FAILURE
    return code


def _run_and_tell(argv: list[str]) -> int:
    # Also for errors of the parser itself, which has not told yet.
    as_json = "--json" in argv
    try:
        return _run(argv)
    except SystemExit as end:  # --help and --version
        return end.code if isinstance(end.code, int) else EXIT_OK
    except KeyboardInterrupt:
        _tell(ErrorInfo(code="cancelled", message="Cancelled."), as_json=as_json)
        return EXIT_INTERRUPTED
    except RequestError as error:
        _tell(error.info(), as_json=as_json)
        return EXIT_ARGUMENTS
    except AppError as error:
        _tell(error.info(), as_json=as_json)
        return EXIT_FAILURE


def _run(argv: list[str]) -> int:
    arguments = parse(argv)
    # A file of its own: two processes cannot rotate one file on Windows.
    log_file = app_paths().log / "command-line.log"
    console = sys.stderr if arguments.log_level <= logging.DEBUG else None
    logs = set_up_logging(log_file, level=arguments.log_level, console=console)
    try:
        if arguments.generate is not None:
            return run_generate(arguments.generate)
        if arguments.plan is not None:
            return run_plan(arguments.plan)
        if arguments.presets is not None:
            return run_presets(arguments.presets)
        if arguments.calibrate:
            return run_calibrate(device=arguments.device, as_json=arguments.as_json)
        if arguments.verb == "bench":
            return run_bench(device=arguments.device, as_json=arguments.as_json)
        if arguments.models is not None and arguments.models.removes:
            return run_remove_kept(arguments.models, as_json=arguments.as_json)
        if arguments.verb == "models":
            return run_models(as_json=arguments.as_json)
        return run_doctor(as_json=arguments.as_json)
    except (AppError, BrokenPipeError, StdoutError):
        raise
    # A mistake of ours: a program that reads JSON still gets its last line, people a sentence.
    except Exception as error:
        log.exception("%s failed", arguments.verb)
        _tell(describe(error), as_json=arguments.as_json)
        return EXIT_FAILURE
    finally:
        logs.close()


def _tell(error: ErrorInfo, *, as_json: bool) -> None:
    if as_json:
        write_json({"event": "error", "code": error.code, "message": error.message})
    else:
        write_err(f"headroom: {error.message}\n")
