"""Log set-up: file, ring, console, engine records and the hooks for uncaught exceptions."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.core.errors import ErrorInfo, ModelError
from app.core.events import EngineLog
from app.core.log import (
    RING_RECORDS,
    LogLine,
    LogRing,
    LogSetup,
    forward_engine_log,
    install_excepthooks,
    set_up_logging,
)

log = logging.getLogger("app.something")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log" / "headroom.log"


@pytest.fixture
def setup(file: Path) -> Iterator[LogSetup]:
    levels = {name: logging.getLogger(name).level for name in ("app", "engine")}
    setup = set_up_logging(file)
    yield setup
    setup.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_records_reach_the_file_and_the_ring(setup: LogSetup, file: Path) -> None:
    log.info("a picture with seed %d", 7)
    log.debug("a detail")
    setup.close()
    assert "INFO app.something: a picture with seed 7" in file.read_text("utf-8")
    line = setup.ring.lines()[-1]
    assert (line.level, line.logger, line.message) == (20, "app.something", "a picture with seed 7")
    assert "a detail" not in file.read_text("utf-8")


def test_libraries_are_heard_from_warning_on(
    setup: LogSetup, expect_log: Callable[..., None]
) -> None:
    expect_log("loud", logger="library")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").warning("loud")
    assert [line.message for line in setup.ring.lines()] == ["loud"]


def test_a_traceback_is_part_of_the_line(setup: LogSetup, expect_log: Callable[..., None]) -> None:
    expect_log("it failed", level="ERROR")
    try:
        int("no number")
    except ValueError:
        log.exception("it failed")
    message = setup.ring.lines()[-1].message
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("'no number'")


def test_the_ring_keeps_the_newest(setup: LogSetup) -> None:
    for number in range(RING_RECORDS + 5):
        log.info("%d", number)
    lines = setup.ring.lines()
    assert len(lines) == RING_RECORDS
    assert (lines[0].message, lines[-1].message) == ("5", str(RING_RECORDS + 4))


def test_listeners_hear_new_lines_until_they_are_removed(setup: LogSetup) -> None:
    heard: list[LogLine] = []
    remove = setup.ring.add_listener(heard.append)
    log.info("one")
    remove()
    remove()
    log.info("two")
    assert [line.message for line in heard] == ["one"]


def test_the_console_hears_warnings_only(setup: LogSetup, expect_log: Callable[..., None]) -> None:
    expect_log("careful")
    console = io.StringIO()
    with_console = set_up_logging(None, console=console)
    log.info("not this")
    log.warning("careful")
    with_console.close()
    assert console.getvalue() == "WARNING app.something: careful\n"


def test_the_console_hears_everything_at_debug(setup: LogSetup) -> None:
    console = io.StringIO()
    with_console = set_up_logging(None, console=console, level=logging.DEBUG)
    log.debug("a detail")
    with_console.close()
    assert "a detail" in console.getvalue()


def test_a_file_that_cannot_be_written_is_told_and_the_rest_works(
    setup: LogSetup, tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be written")
    (tmp_path / "blocked").write_text("a file")
    other = set_up_logging(tmp_path / "blocked" / "headroom.log")
    log.info("still heard")
    other.close()
    assert "cannot be written" in other.problem
    assert other.ring.lines()[-1].message == "still heard"


def test_close_takes_the_handlers_off_and_may_be_called_twice(setup: LogSetup) -> None:
    setup.close()
    setup.close()
    log.info("unheard")
    assert not any(line.message == "unheard" for line in setup.ring.lines())
    assert not any(isinstance(one, LogRing) for one in logging.getLogger().handlers)


def test_engine_records_come_under_their_own_name(setup: LogSetup) -> None:
    forward_engine_log(EngineLog(level=20, logger="app.engine.loader", message="100 % done"))
    line = setup.ring.lines()[-1]
    assert (line.logger, line.message) == ("engine.app.engine.loader", "100 % done")


@pytest.fixture
def reported() -> Iterator[list[ErrorInfo]]:
    infos: list[ErrorInfo] = []
    restore = install_excepthooks(infos.append)
    yield infos
    restore()


def test_uncaught_exceptions_are_logged_and_reported_as_plain_data(
    reported: list[ErrorInfo], expect_log: Callable[..., None]
) -> None:
    expect_log("was not caught", level="CRITICAL")
    error = RuntimeError("oh")
    sys.excepthook(RuntimeError, error, None)
    assert [info.code for info in reported] == ["unexpected"]
    sys.excepthook(ModelError, ModelError("No such folder.", code="model.missing"), None)
    assert reported[1] == ErrorInfo(code="model.missing", message="No such folder.")


def test_exceptions_in_threads_are_reported_and_system_exit_is_not(
    reported: list[ErrorInfo], expect_log: Callable[..., None]
) -> None:
    expect_log("was not caught", level="CRITICAL")

    def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError("in a thread"), SystemExit(0)):
        thread = threading.Thread(target=fail, args=(error,))
        thread.start()
        thread.join()
    assert [info.details for info in reported] == ["in a thread"]


def test_keyboard_interrupt_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts: list[BaseException] = []
    reported: list[ErrorInfo] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: interrupts.append(error))
    restore = install_excepthooks(reported.append)
    interrupt = KeyboardInterrupt()
    sys.excepthook(KeyboardInterrupt, interrupt, None)
    restore()
    assert (interrupts, reported) == ([interrupt], [])


def test_the_former_hooks_come_back() -> None:
    former = sys.excepthook, threading.excepthook
    install_excepthooks()()
    assert (sys.excepthook, threading.excepthook) == former
