"""The guards of conftest.py, tried on tests that misbehave on purpose."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

THREADS_AND_PROCESSES = """
    import logging, subprocess, sys, threading

    stop = threading.Event()
    kept = []

    def test_leaves_a_thread():
        thread = threading.Thread(target=stop.wait, name="forgotten", daemon=True)
        thread.start()

    def test_stops_its_thread():
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        end.set()

    def test_leaves_a_process():
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

    def test_ends_its_process():
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE):
            pass

    def test_has_a_home_of_its_own(tmp_path):
        import os, pathlib
        home = pathlib.Path(os.environ["HEADROOM_HOME"])
        assert home.is_dir() and not list(home.iterdir())
        (home / "settings.json").touch()

    def test_has_another_home(tmp_path):
        test_has_a_home_of_its_own(tmp_path)

    def test_sees_no_screen_and_no_network():
        import os
        assert os.environ["QT_QPA_PLATFORM"] == "offscreen"
        assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
        assert int(os.environ["OMP_NUM_THREADS"]) > 0

    def test_did_not_load_qt_or_torch():
        assert "PySide6.QtCore" not in sys.modules
        assert "torch" not in sys.modules
"""

LOGS = """
    import logging

    def test_warns():
        logging.getLogger("app.core").warning("the sky falls")

    def test_warns_below_a_logger_that_does_not_propagate():
        logger = logging.getLogger("app")
        logger.propagate = False
        logging.getLogger("app.core").warning("nobody hears this")
        logger.propagate = True

    def test_informs():
        logging.getLogger("app.core").info("all is well")

    def test_warns_as_expected(expect_log):
        expect_log("sky .* falls")
        logging.getLogger("app.core").warning("the sky %s falls", "soon")

    def test_fails_as_expected(expect_log):
        expect_log("lost", logger="elsewhere", level="ERROR")
        logging.getLogger("elsewhere").error("all is lost")

    def test_expects_in_vain(expect_log):
        expect_log("never said")

    def test_expects_another_level(expect_log):
        expect_log("lost")
        logging.getLogger("app").error("all is lost")
"""

QT = """
    from PySide6.QtCore import QObject, QThread, QTimer
    from PySide6.QtWidgets import QLabel

    kept = []

    def test_leaves_a_visible_window(qapp):
        kept.append(QLabel("visible"))
        kept[-1].show()

    def test_leaves_a_hidden_window(qapp):
        kept.append(QLabel("hidden"))

    def test_closes_its_window(qtbot):
        kept.append(QLabel("tidy"))
        qtbot.addWidget(kept[-1])
        kept[-1].show()

    def test_drops_its_window(qapp):
        label = QLabel("cycle")
        label.me = label

    def test_leaves_a_timer(qapp):
        kept.append(QTimer(interval=60_000))
        kept[-1].start()

    def test_stops_its_timer(qapp):
        kept.append(QTimer())
        kept[-1].start(60_000)
        kept[-1].stop()

    def test_deletes_its_timer(qapp):
        parent = QObject()
        QTimer(parent).start(60_000)
        parent.deleteLater()

    def test_leaves_a_qt_thread(qapp, request):
        thread = QThread()
        thread.start()
        # Ended after the guard has looked, for a running thread must not be collected.
        request.config.add_cleanup(lambda: (thread.quit(), thread.wait()))

    def test_ends_its_qt_thread(qapp):
        thread = QThread()
        thread.start()
        thread.quit()
        thread.wait()
"""


@pytest.fixture
def run_guarded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run tests under the real conftest.py, in a process of its own; gives the lines it printed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))

    def run(tests: str, *options: str) -> str:
        pytester.makepyfile(tests)
        result = pytester.runpytest_subprocess("-rA", "-p", "no:cacheprovider", *options)
        return result.stdout.str()

    return run


def failed_tests(output: str) -> set[str]:
    summary = output.partition("short test summary info")[2]
    lines = [line for line in summary.splitlines() if line.startswith(("ERROR", "FAILED"))]
    return {line.split("::")[1].split()[0] for line in lines}


def test_guards_see_leaked_threads_and_processes(run_guarded):
    output = run_guarded(THREADS_AND_PROCESSES, "-p", "no:pytest-qt")
    assert failed_tests(output) == {"test_leaves_a_thread", "test_leaves_a_process"}
    assert "running thread: forgotten" in output
    assert "running process: " in output
    assert "input()" in output


def test_guards_see_unexpected_and_missing_log_records(run_guarded):
    output = run_guarded(LOGS, "-p", "no:pytest-qt")
    assert failed_tests(output) == {
        "test_warns",
        "test_warns_below_a_logger_that_does_not_propagate",
        "test_expects_in_vain",
        "test_expects_another_level",
    }
    assert "unexpected: WARNING app.core: the sky falls" in output
    assert "expected, but not logged: WARNING app: never said" in output


def test_guards_see_leaked_windows_timers_and_qt_threads(run_guarded):
    output = run_guarded(QT)
    assert failed_tests(output) == {
        "test_leaves_a_visible_window",
        "test_leaves_a_hidden_window",
        "test_leaves_a_timer",
        "test_leaves_a_qt_thread",
    }
    assert "window (visible)" in output
    assert "window (hidden, but not deleted)" in output
    assert "active timer: every 60000 ms" in output
    assert "running Qt thread" in output
