"""The composition root: everything together, started and ended in order."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.core.errors import ErrorInfo
from app.core.events import EngineState
from app.core.log import LogSetup, set_up_logging
from app.core.paths import AppPaths, app_paths
from app.core.settings import Settings, SettingsStore
from app.main import Application
from app.ui import theme
from app.ui.panels.close_dialog import CloseDialog
from app.ui.panels.error_dialog import ErrorDialog
from tests.fakes.engine import FakeEngines, finish_at_once
from tests.fakes.model_folder import DEV, make_folder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def paths(tmp_path: Path) -> AppPaths:
    """Folders of a user who has added one model and saved nothing else."""
    folder = make_folder(tmp_path / "dev", DEV, dev=True)
    found = app_paths()
    SettingsStore(found.settings_file).save(Settings(model_folders=(str(folder),)))
    return found


@pytest.fixture
def logs() -> Iterator[LogSetup]:
    made = set_up_logging(None)
    yield made
    made.close()


@pytest.fixture
def engines() -> FakeEngines:
    return FakeEngines(on_run=finish_at_once)


@pytest.fixture
def application(
    qapp: QApplication, qtbot: QtBot, paths: AppPaths, logs: LogSetup, engines: FakeEngines
) -> Iterator[Application]:
    made = Application(qapp, paths, logs, start_engine=engines)
    yield made
    made.end()
    theme.apply(qapp, "system")


def started(application: Application, qtbot: QtBot) -> None:
    """Show the window and wait until everything behind it is there."""
    application.start()
    qtbot.waitUntil(lambda: bool(application.window.findChildren(QWidget, "memory_panel")))
    qtbot.waitUntil(lambda: application.window.findChild(QWidget, "memory_panel") is not None)


def test_window_is_shown_before_anything_heavy_begins(
    application: Application, engines: FakeEngines
):
    application.start()
    assert application.window.isVisible()
    assert engines.started == []
    assert application.window.findChild(QWidget, "memory_panel") is None


def test_another_device_takes_another_engine_at_once(
    application: Application, engines: FakeEngines, qtbot: QtBot
):
    started(application, qtbot)
    qtbot.waitUntil(lambda: len(engines.started) == 1)
    settings = application.models.settings
    settings.update(theme="dark")
    settings.update(device="cpu")
    qtbot.waitUntil(lambda: len(engines.started) == 2)
    assert not engines.started[0].alive, "not two at once"


def test_rest_follows_behind_the_window(
    application: Application, engines: FakeEngines, qtbot: QtBot
):
    started(application, qtbot)
    qtbot.waitUntil(lambda: len(engines.started) == 1)
    qtbot.waitUntil(lambda: "Fake CPU" in application.diagnostics())
    qtbot.waitUntil(lambda: "not measured yet" not in application.diagnostics())


def test_job_goes_from_the_form_to_the_engine_and_back(
    application: Application, engines: FakeEngines, qtbot: QtBot
):
    models = application.models
    started(application, qtbot)
    qtbot.waitUntil(lambda: models.catalog.choice("dev") is not None)
    models.form.set_model("dev")
    models.form.set_prompt("a ring")
    with qtbot.waitSignal(models.engine.job_finished):
        models.studio.generate()
    [job] = engines.last.jobs
    assert job.request == models.form.request()
    assert models.results.rowCount() == 1


def test_closing_during_a_run_ends_the_engine_and_keeps_the_job(
    qapp: QApplication,
    qtbot: QtBot,
    paths: AppPaths,
    logs: LogSetup,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(CloseDialog, "ask", lambda _reason, _parent: True)
    engines = FakeEngines()  # Never finishes a job.
    application = Application(qapp, paths, logs, start_engine=engines)
    models = application.models
    started(application, qtbot)
    qtbot.waitUntil(lambda: models.catalog.choice("dev") is not None)
    models.form.set_model("dev")
    models.form.set_prompt("a ring")
    models.studio.generate()
    qtbot.waitUntil(lambda: models.engine.current_job is not None)
    with qtbot.waitSignal(application.ended):
        application.window.close()
    assert not application.window.isVisible()
    application.end()
    assert not engines.last.alive
    assert "a ring" in paths.queue_file.read_text("utf-8")
    assert "a ring" in (paths.data / "session.json").read_text("utf-8")


def test_end_may_come_twice_and_without_a_start(application: Application):
    application.end()
    application.end()


def test_layout_is_kept_when_the_system_ends_the_session(
    application: Application, qapp: QApplication, paths: AppPaths
):
    application.window.show()
    qapp.commitDataRequest.emit(None)
    layout = paths.data / "window.json"
    assert layout.exists()
    layout.unlink()
    qapp.aboutToQuit.emit()
    assert layout.exists()


def test_end_that_the_system_asks_for_keeps_the_layout_and_is_announced(
    application: Application, qtbot: QtBot, paths: AppPaths
):
    application.window.show()
    with qtbot.waitSignals([application.ending, application.ended]):
        application.ask_to_end()
    assert (paths.data / "window.json").exists()


def test_theme_setting_reaches_the_application(application: Application):
    for name, scheme in (("dark", theme.DARK), ("light", theme.LIGHT)):
        application.models.settings.update(theme=name)
        assert theme.colours() == scheme


def test_uncaught_error_is_shown_with_a_report(application: Application, qtbot: QtBot):
    application.window.show()
    application.report(ErrorInfo(code="unexpected", message="It broke."))
    qtbot.waitUntil(lambda: bool(application.window.findChildren(ErrorDialog)))
    [dialog] = application.window.findChildren(ErrorDialog)
    dialog.close()


def test_broken_settings_are_told(
    qapp: QApplication,
    qtbot: QtBot,
    paths: AppPaths,
    logs: LogSetup,
    expect_log: Callable[..., None],
):
    expect_log("settings cannot be read")
    paths.settings_file.write_text("{broken")
    application = Application(qapp, paths, logs, start_engine=FakeEngines())
    application.start()
    label = application.window.findChild(QWidget, "window_message")
    assert label is not None
    qtbot.waitUntil(label.isVisible)
    assert "settings file cannot be read" in label.accessibleName()
    application.end()


@pytest.mark.slow
def test_window_process_imports_no_torch():
    code = (
        "import sys, app.main\n"
        "from app.ui.panels.memory_panel import MemoryPanel\n"
        "import app.engine.prompt_tokens\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'safetensors', 'accelerate'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def wait_for_line(
    process: "subprocess.Popen[str]", log_file: Path, line: str, *, times: int = 1
) -> None:
    """Wait until something has been logged so many times."""
    deadline_s = time.monotonic() + 60
    while not (log_file.exists() and log_file.read_text("utf-8").count(line) >= times):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
def test_real_process_is_the_only_one_and_ends_in_order_on_a_signal(tmp_path: Path):
    home = tmp_path / "home"
    environment = {**os.environ, "HEADROOM_HOME": str(home), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-m", "app"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    log_file = home / "log" / "headroom.log"
    wait_for_line(process, log_file, "window is up")
    second = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=60)
    assert second.returncode == 0
    wait_for_line(process, log_file, "asked to the front")
    process.send_signal(signal.SIGTERM)
    wait_for_line(process, log_file, "the window goes")
    third = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    # Started while the first was ending: it has waited, and has a window of its own.
    wait_for_line(third, log_file, "window is up", times=2)
    assert (home / "data" / "window.json").exists()
    third.send_signal(signal.SIGTERM)
    _, errors = third.communicate(timeout=60)
    assert third.returncode == 0, errors


def test_engine_state_is_stopped_before_the_start(application: Application):
    assert application.models.engine.engine_state is EngineState.STOPPED
