"""What every test gets: a private home, no screen, no network, and guards that see leaks."""

import gc
import itertools
import logging
import os
from collections.abc import Callable, Iterator

import pytest

from tests.guards import processes, qt, threads
from tests.guards.logs import LogWatch

# Before anything imports Qt, torch or a Hugging Face library: they read these once.
os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# One thread for each of the processes that run the tests: more would wait for one another.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# What is imported and collected stays for good: to look for garbage among it would take as long as
# collecting does, and again at each round while the tests run.
gc.disable()

pytest_plugins = ("pytester",)
_homes = itertools.count()


def pytest_collection_finish() -> None:
    """Let garbage be collected again, of what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def leak_guard() -> Iterator[None]:
    """Fail a test that leaves threads, child processes, timers or windows behind."""
    qt.watch_starts()
    python_threads = threads.running_threads()
    children = processes.running_children()
    windows, timers = qt.open_windows(), qt.active_timers()
    qt_threads = qt.running_threads()
    yield
    problems = qt.leaks(windows=windows, timers=timers, threads=qt_threads)
    problems += [f"running thread: {name}" for name in threads.leaked_threads(python_threads)]
    problems += [f"running process: {name}" for name in processes.leaked_children(children)]
    if problems:
        pytest.fail("The test left something behind:\n  " + "\n  ".join(problems), pytrace=False)


@pytest.fixture(autouse=True)
def log_guard(leak_guard: None) -> Iterator[LogWatch]:
    """Fail a test that logs a warning or an error nobody expects."""
    watch = LogWatch()
    # A logger that does not propagate hides its records from the root.
    loggers = [logging.getLogger(), logging.getLogger("app")]
    for logger in loggers:
        logger.addHandler(watch)
    yield watch
    for logger in loggers:
        logger.removeHandler(watch)
    if problems := watch.problems():
        pytest.fail("The log is not as expected:\n  " + "\n  ".join(problems), pytrace=False)


@pytest.fixture
def expect_log(log_guard: LogWatch) -> Callable[..., None]:
    """Say that a warning or error will be logged: `expect_log("pattern", level="ERROR")`."""
    return log_guard.expect


@pytest.fixture(autouse=True)
def headroom_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings, queue, log and pictures of a test go to a folder of its own."""
    # `mktemp` looks through all folders for the next free number: a millisecond and more each time.
    home = tmp_path_factory.getbasetemp() / f"home-{next(_homes)}"
    home.mkdir()
    monkeypatch.setenv("HEADROOM_HOME", str(home))
