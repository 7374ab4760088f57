"""The window's composition root: makes every object, connects them, ends them in order.

The window is shown first; models are looked for, the engine is started and the memory graph is
loaded behind it.
"""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from app import __version__
from app.core.calibration_store import CalibrationStore
from app.core.errors import ErrorInfo, describe
from app.core.log import LogSetup, install_excepthooks, set_up_logging
from app.core.paths import AppPaths, app_paths
from app.core.queue_store import QueueStore
from app.core.settings import Settings, SettingsStore
from app.engine.catalog import Catalog
from app.engine.client import Deliver, EngineClient, StartEngine, engine_starter
from app.ui import theme
from app.ui.engine_thread import EngineThread
from app.ui.main_window import MainWindow
from app.ui.models.background import Background
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.diagnostics import diagnostics
from app.ui.models.engine_model import EngineModel
from app.ui.models.form import SessionFile
from app.ui.models.jobs_model import JobsModel
from app.ui.models.kept_model import KeptModel
from app.ui.models.layout_file import LayoutFile
from app.ui.models.live_budget import LiveBudget
from app.ui.models.measuring_model import MeasuringModel
from app.ui.models.planning import Planning, PlanningFiles
from app.ui.models.references_model import ReferencesModel
from app.ui.models.request_model import RequestModel
from app.ui.models.results_model import ResultsModel
from app.ui.models.settings_model import SettingsModel
from app.ui.models.single_instance import SingleInstance, Start, server_name
from app.ui.models.status_model import StatusModel
from app.ui.models.studio import Studio
from app.ui.models.token_model import Count, TokenModel
from app.ui.models.window_models import WindowModels
from app.ui.panels.error_dialog import ErrorDialog, say_it_does_not_answer

if TYPE_CHECKING:
    from app.ui.models.monitor_model import MonitorModel
    from app.ui.monitor_thread import MonitorThread

log = logging.getLogger(__name__)


class Application(QObject):
    """Everything that makes up a running window.

    Attributes:
        window: Shown by `start`.
        models: What the window shows.

    Signals:
        ending(): The window is about to go, for good.
        ended(): After `begin_end`, when all that was running has stopped.
    """

    ending = Signal()
    ended = Signal()
    _failed = Signal(object)
    _end_asked = Signal()

    def __init__(
        self,
        qt: QApplication,
        paths: AppPaths,
        logs: LogSetup,
        *,
        start_engine: StartEngine | None = None,
    ) -> None:
        """Make all objects; nothing runs before `start`.

        Args:
            qt: Qt's own application.
            paths: Where everything is kept.
            logs: Already set up.
            start_engine: Instead of real engine processes.
        """
        super().__init__()
        self._qt = qt
        self._logs = logs
        self._is_ending = self._has_ended = False
        self._monitor: MonitorModel | None = None
        self._monitor_thread: MonitorThread | None = None
        self._background = Background(self)
        self._settings = SettingsModel(
            SettingsStore(paths.settings_file), paths.pictures, self._background, self
        )
        self._engine_device = self._settings.settings.device
        theme.apply(qt, self._settings.settings.theme)
        self._catalog = CatalogModel(Catalog, self._settings, self._background, self)
        self._form = RequestModel(
            SessionFile(paths.data / "session.json"), self._catalog.defaults, self._background, self
        )
        self._references = ReferencesModel(
            self._form, self._background, paths.data / "pasted", self
        )
        self._tokens = TokenModel(open_tokenizer, self._background, self)
        self._planning = Planning(
            form=self._form,
            catalog=self._catalog,
            settings=self._settings,
            background=self._background,
            files=PlanningFiles.of(paths),
            references=self._references,
            parent=self,
        )
        calibration = CalibrationStore(paths.calibration_file)
        self._store = QueueStore(paths.queue_file)
        self._engine_thread = EngineThread(
            start_engine=start_engine or self._start_engine,
            store=self._store,
            calibration=calibration,
            runs_folder=paths.runs_folder,
            parent=self,
        )
        self._engine = EngineModel(self._engine_thread, self)
        self._live_budget = LiveBudget(self._planning.policy, self._engine, self)
        self._results = ResultsModel(self._engine, self._background, self)
        self._measuring = MeasuringModel(
            self._engine,
            self._engine_thread,
            self._catalog,
            self._planning.machine,
            self._background,
            store=calibration,
            scratch=paths.cache,
            parent=self,
        )
        self.models = WindowModels(
            form=self._form,
            references=self._references,
            catalog=self._catalog,
            settings=self._settings,
            tokens=self._tokens,
            studio=Studio(
                self._form, self._catalog, self._settings, self._engine, self._planning, self
            ),
            planning=self._planning,
            measuring=self._measuring,
            engine=self._engine,
            status=StatusModel(self._engine, self._results, self),
            jobs=JobsModel(self._engine, self),
            results=self._results,
            kept=KeptModel(
                self._engine,
                self._planning.plans,
                self._background,
                converted=paths.converted_folder,
                embeddings=paths.embeddings_folder,
                parent=self,
            ),
            layout=LayoutFile(paths.data / "window.json"),
            ring=logs.ring,
            diagnostics=self.diagnostics,
        )
        self.window = MainWindow(self.models)
        self._connect()

    def start(self) -> None:
        """Show the window, then do everything that takes time."""
        self.window.show()
        QTimer.singleShot(0, self, self._start_the_rest)

    def take_files(self, files: Iterable[str]) -> None:
        """Open what the command line or a second start named, and come to the front."""
        log.info("asked to the front")
        self.window.open_files(tuple(files))

    def diagnostics(self) -> str:
        """A text for a bug report."""
        return diagnostics(
            settings=self._settings.settings,
            sample=None if self._monitor is None else self._monitor.sample,
            engine=self._engine.ready,
            lines=self._logs.ring.lines(),
            qt_platform=QGuiApplication.platformName(),
        )

    def report(self, error: ErrorInfo) -> None:
        """Tell about an exception nobody caught; may be called in any thread."""
        self._failed.emit(error)

    def ask_to_end(self) -> None:
        """End without a question, as on a signal of the system; may be called in any thread."""
        self._end_asked.emit()

    @Slot()
    def begin_end(self) -> None:
        """Stop what runs, without waiting; the application quits when it has stopped."""
        if self._is_ending:
            return
        self._is_ending = True
        log.info("the window goes")
        self.ending.emit()
        self.window.save_layout()
        self.window.hide()
        self._tokens.stop()
        if self._engine_thread.isRunning():
            self._engine_thread.finished.connect(self.ended)
            self._engine_thread.request_stop()
        else:
            self.ended.emit()

    def end(self) -> None:
        """Wait for what is left and write what is unwritten; may be called twice."""
        if self._has_ended:
            return
        self._is_ending = self._has_ended = True
        self._tokens.stop()
        if self._monitor_thread is not None:
            self._monitor_thread.stop()
        if self._engine_thread.isRunning() and not self._engine_thread.stop():
            log.error("the engine thread does not end")
        self._results.stop()
        # Before the last writing: a write that is under way there would bring an older state back.
        self._background.close()
        self._form.flush()
        self._planning.stop()
        self._settings.flush()
        self.window.deleteLater()

    def _connect(self) -> None:
        self._failed.connect(self._on_failed)
        self._end_asked.connect(self.begin_end)
        self._engine_thread.event_received.connect(self._engine.on_event)
        self._engine_thread.event_received.connect(self._planning.on_event)
        self._settings.changed.connect(self._on_settings_changed)
        self._qt.styleHints().colorSchemeChanged.connect(self._on_colour_scheme_changed)
        self._form.prompt_changed.connect(self._tokens.set_prompt)
        self._form.changed.connect(self._on_form_changed)
        self._catalog.refreshed.connect(self._on_form_changed)
        self.window.close_confirmed.connect(self.begin_end)
        # Logging off: nothing typed is lost, whatever the system does next.
        self._qt.commitDataRequest.connect(self._flush)
        self._qt.aboutToQuit.connect(self._flush)

    @Slot()
    def _start_the_rest(self) -> None:
        self._catalog.refresh()
        self._tokens.set_prompt(self._form.form.prompt)
        log.info("the window is up")
        self._engine_thread.start()
        self._engine_thread.warm_up()
        self._background.run(load_graph_libraries, self._on_graph_loaded, self._on_graph_missing)
        for problem in (*self._settings.problems, self._store.problem, self._logs.problem):
            if problem:
                self.window.show_notice(problem)

    def _on_graph_loaded(self, _nothing: None) -> None:
        if self._is_ending:
            return
        # Lazy: with numpy and pyqtgraph, these take as long to load as the rest of the window.
        from app.ui.models.monitor_model import MonitorModel
        from app.ui.monitor_thread import MonitorThread
        from app.ui.panels.memory_panel import MemoryPanel

        monitor = MonitorModel(parent=self)
        thread = MonitorThread(parent=self)
        thread.sampled.connect(monitor.on_sample)
        # Direct, from thread to thread: a busy window must not keep memory from being watched.
        thread.sampled.connect(self._engine_thread.note_sample, Qt.ConnectionType.DirectConnection)
        thread.driver_changed.connect(
            self._engine_thread.set_driver, Qt.ConnectionType.DirectConnection
        )
        thread.driver_changed.connect(self._planning.machine.set_driver)
        thread.sampled.connect(self._planning.on_sample)
        thread.sampled.connect(self._measuring.on_sample)
        monitor.engine_changed.connect(thread.set_engine)
        monitor.run_started.connect(thread.begin_run)
        monitor.run_ended.connect(thread.end_run)
        self._engine_thread.event_received.connect(monitor.on_event)
        if self._engine.ready is not None:
            monitor.on_event(self._engine.ready)
        panel = MemoryPanel(monitor, forecast=self._planning.forecast)
        panel.watched_changed.connect(thread.set_watched)
        panel.said.connect(self.window.show_status)
        panel.failed.connect(self.window.show_notice)
        self.window.set_memory_panel(panel)
        self._monitor, self._monitor_thread = monitor, thread
        thread.start()

    def _on_graph_missing(self, error: Exception) -> None:
        log.error("the memory graph cannot be loaded: %s", error)
        self.window.show_error(describe(error))

    def _start_engine(self, deliver: Deliver) -> EngineClient:
        # Read anew for each process: a device chosen meanwhile is used from then on.
        return engine_starter(device=self._settings.settings.device)(deliver)

    @Slot(object)
    def _on_settings_changed(self, settings: Settings) -> None:
        if self._qt.property("headroom_theme") != settings.theme:
            theme.apply(self._qt, settings.theme)
        if settings.device != self._engine_device:
            self._engine_device = settings.device
            self._engine_thread.renew_engine()

    @Slot()
    def _on_colour_scheme_changed(self) -> None:
        if self._settings.settings.theme == "system":
            theme.apply(self._qt, "system")

    @Slot()
    def _on_form_changed(self) -> None:
        choice = self._catalog.choice(self._form.form.model)
        self._tokens.set_folder(None if choice is None or not choice.usable else choice.folder)

    @Slot(object)
    def _on_failed(self, error: ErrorInfo) -> None:
        ErrorDialog.report(error, self.diagnostics(), self.window)

    @Slot()
    def _flush(self) -> None:
        if self._has_ended:
            return
        self.window.save_layout()
        self._form.flush()
        self._planning.flush()
        self._settings.flush()


def load_graph_libraries() -> None:
    """Load what the memory graph needs; called in a thread, while the window is already there."""
    for name in ("numpy", "pyqtgraph"):
        importlib.import_module(name)


def open_tokenizer(folder: Path) -> Count:
    """A function that counts prompts as the model in this folder does."""
    # Lazy, and called in a thread: these libraries take longer to load than the window.
    from app.engine.model_folder import inspect_model_folder
    from app.engine.prompt_tokens import PromptTokenizer

    return PromptTokenizer.open(inspect_model_folder(folder)).count


def main(argv: list[str]) -> int:
    """Open the window, or hand the files to the one that is open; the process's exit code."""
    paths = app_paths()
    qt = QApplication([sys.argv[0]])
    qt.setApplicationName("headroom")
    qt.setApplicationDisplayName("Headroom")
    qt.setApplicationVersion(__version__)
    qt.setDesktopFileName("headroom")
    qt.setQuitOnLastWindowClosed(False)
    instance = SingleInstance(server_name(paths.data), paths.data / "instance.lock")
    files = [str(Path(name).absolute()) for name in argv]
    start = instance.claim_or_hand_over(files)
    if start is Start.HANDED_OVER:
        return 0
    if start is Start.NO_ANSWER:
        say_it_does_not_answer()
        return 1
    logs = set_up_logging(paths.log_file, console=sys.stderr)
    application = Application(qt, paths, logs)
    restore_hooks = install_excepthooks(application.report)
    instance.opened.connect(application.take_files)
    # A start that comes from now on waits for our end instead of being told to a window that goes.
    application.ending.connect(instance.stop_listening)
    _end_on_signals(application)
    application.ended.connect(qt.quit)
    application.start()
    if files:
        QTimer.singleShot(0, application, lambda: application.take_files(files))
    try:
        return qt.exec()
    finally:
        application.end()
        # Last: the next instance reads what was written just now.
        instance.close()
        restore_hooks()
        logs.close()


def _end_on_signals(application: Application) -> None:
    """End in order on Ctrl+C in a terminal and on the system's request."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        application.ask_to_end()

    for name in ("SIGINT", "SIGTERM") if os.name == "posix" else ("SIGINT",):
        signal.signal(getattr(signal, name), on_signal)
