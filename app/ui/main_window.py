"""The window: prompt and settings left, picture in the middle, memory and queue right."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import (
    QAction,
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QGuiApplication,
)
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QLabel,
    QMainWindow,
    QWidget,
)

from app.core.errors import ErrorInfo
from app.core.request import RequestProblem
from app.core.settings import Settings
from app.ui import theme
from app.ui.models.layout_file import LAYOUT_VERSION
from app.ui.models.run_progress import RunProgress
from app.ui.models.studio import Reused
from app.ui.models.window_models import WindowModels
from app.ui.panels import window_layout
from app.ui.panels.close_dialog import CloseDialog
from app.ui.panels.dock_widths import DockWidths
from app.ui.panels.form_panel import FormPanel
from app.ui.panels.menus import fill_menu_bar
from app.ui.panels.picture_panel import PicturePanel
from app.ui.panels.queue_panel import QueuePanel
from app.ui.panels.run_bar import RunBar
from app.ui.panels.text_dialog import error_text
from app.ui.panels.window_actions import WindowActions
from app.ui.panels.window_dialogs import WindowDialogs, ask_picture, open_folder
from app.ui.widgets.centre import Centre
from app.ui.widgets.dock import Dock
from app.ui.widgets.dropped_path import dropped_path
from app.ui.widgets.edit_target import edit_focused, take_over_typed
from app.ui.widgets.message_bar import MessageBar

TOLD_MS = 6000


class MainWindow(QMainWindow):
    """Assembles the panels and connects the menus.

    Signals:
        close_confirmed(): The window is hidden, and the app is to end.
    """

    close_confirmed = Signal()

    def __init__(self, models: WindowModels) -> None:
        super().__init__()
        self.setObjectName("main_window")
        self.setWindowTitle(self.tr("Headroom"))
        self.setWindowIcon(theme.icon("headroom"))
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self._models = models
        self._is_closing = False
        self._error: ErrorInfo | None = None
        self._commands = WindowActions(self)
        self._form = FormPanel(models, self)
        self._prompt, self._settings = self._form.prompt, self._form.settings
        self._picture = PicturePanel(models.engine, models.results, self)
        self._queue = QueuePanel(models.engine, models.jobs, self)
        self._message = MessageBar("window_message", self)
        self._show_details = self._message_action("message_details", self.tr("&Details"))
        self._undo_use = self._message_action("undo_use", self.tr("&Undo"))
        self._studio_text = ""
        self._copy_error = self._message_action("copy_message", self.tr("&Copy"))
        self._dialogs = WindowDialogs(
            self,
            settings=models.settings,
            catalog=models.catalog,
            plans=models.planning.plans,
            kept=models.kept,
            measuring=models.measuring,
            ring=models.ring,
            actions=self._all_actions,
        )
        self._engine_label = QLabel(self)
        self._queue_label = QLabel(self)
        self._lay_out()
        self._connect_commands()
        self._connect_models()
        self._default_state = self.saveState(LAYOUT_VERSION)
        window_layout.restore_layout(self, models.layout)
        self._on_settings_changed(models.settings.settings)
        self._prompt.focus_prompt()

    # For the composition root.

    def set_memory_panel(self, panel: QWidget) -> None:
        """Put the memory panel in its place; it comes after the window, being slow to load."""
        self._memory_dock.set_content(panel)

    def open_files(self, files: tuple[str, ...]) -> None:
        """Come to the front and take what a second start was given."""
        if self.isMinimized():
            self.showNormal()
        self.raise_()
        self.activateWindow()
        for file in files[:1]:
            self._take_path(Path(file))

    def save_layout(self) -> None:
        """Keep where the window is and how it is arranged; a hidden one has been kept before."""
        if self.isVisible():
            window_layout.save_layout(self, self._models.layout)

    @Slot(object)
    def show_error(self, error: ErrorInfo) -> None:
        """Say what went wrong, without getting in the way."""
        self._error = error
        self._message.show_message(
            error.message, kind="problem", actions=[self._show_details, self._copy_error]
        )

    @Slot(str)
    def show_notice(self, text: str) -> None:
        """Say something that is no failure."""
        self._error = None
        self._message.show_message(text, kind="notice")

    @Slot(str)
    def show_status(self, text: str) -> None:
        """Say in passing what was done."""
        self.statusBar().showMessage(text, TOLD_MS)

    # Building.

    def _lay_out(self) -> None:
        gap = theme.SPACING_PX
        self._form_dock = Dock("form_dock", self.tr("Prompt and settings"), self, fixed=True)
        self._form_dock.set_content(self._form)
        self._memory_dock = Dock("memory_dock", self.tr("Memory"), self)
        empty = QFrame(self)
        theme.set_role(empty, "card")
        self._memory_dock.set_content(empty)
        self._queue_dock = Dock("queue_dock", self.tr("Queue"), self)
        self._queue_dock.set_content(self._queue)
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, self._form_dock)
        for dock in (self._memory_dock, self._queue_dock):
            self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        self._widths = DockWidths(self, self._form_dock, [self._memory_dock, self._queue_dock])
        centre = Centre(self)
        centre.column.addWidget(self._message)
        centre.column.addWidget(RunBar(self._models.planning.news, centre))
        centre.column.addWidget(self._picture, 1)
        self.setCentralWidget(centre)
        self._arrange()
        bar = self.statusBar()
        bar.setObjectName("status_bar")
        bar.setSizeGripEnabled(False)
        bar.setContentsMargins(gap, 0, 2 * gap, 0)
        self._queue_label.setContentsMargins(gap, 0, 0, 0)
        for label, name, meaning in (
            (self._engine_label, "engine_label", self.tr("Engine")),
            (self._queue_label, "queue_label", self.tr("Queue")),
        ):
            label.setObjectName(name)
            label.setAccessibleName(meaning)
            bar.addPermanentWidget(label)
        fill_menu_bar(
            self.menuBar(),
            self._commands,
            picture=self._picture.commands,
            queue=self._queue,
            views=[self._memory_dock.toggleViewAction(), self._queue_dock.toggleViewAction()],
        )
        self.menuBar().setObjectName("menu_bar")

    def _arrange(self) -> None:
        """The sizes of a new window."""
        self.resize(window_layout.first_size())
        self._widths.arrange()
        window_layout.arrange_sides(self, self._memory_dock, self._queue_dock)

    def _message_action(self, name: str, text: str) -> QAction:
        action = QAction(text, self)
        action.setObjectName(f"action_{name}")
        return action

    def _all_actions(self) -> list[QAction]:
        return [*self._commands.all(), *self._picture.actions(), *self._queue.actions()]

    def _connect_commands(self) -> None:
        acts, models, dialogs = self._commands, self._models, self._dialogs
        for action, slot in (
            (acts.open_picture, self._on_open_picture),
            (acts.add_model, self._settings.add_model_folder),
            (acts.open_folder, self._on_open_folder),
            (acts.quit, self.close),
            (acts.focus_prompt, self._prompt.focus_prompt),
            (acts.new_seed, models.form.draw_seed),
            (acts.restore_defaults, models.form.restore_defaults),
            (acts.settings, dialogs.show_settings),
            (acts.reset_layout, self._reset_layout),
            (acts.generate, lambda: (take_over_typed(), models.studio.generate())),
            (acts.generate_next, lambda: (take_over_typed(), models.studio.generate_next())),
            (acts.cancel, models.engine.cancel_current),
            (acts.models, dialogs.show_models),
            (acts.measure, dialogs.show_measure),
            (acts.log, dialogs.show_log),
            (acts.copy_diagnostics, self._copy_diagnostics),
            (acts.shortcuts, dialogs.show_shortcuts),
            (acts.about, dialogs.show_about),
            (acts.undo, lambda: edit_focused("undo")),
            (acts.redo, lambda: edit_focused("redo")),
            (acts.cut, lambda: edit_focused("cut")),
            (acts.copy, self._on_copy),
            (acts.paste, self._form.paste),
            (acts.select_all, lambda: edit_focused("selectAll")),
            (self._show_details, self._on_show_details),
            (self._copy_error, self._on_copy_error),
            (self._undo_use, self._on_undo_use),
        ):
            # Without the "checked" that Qt would pass on.
            action.triggered.connect(lambda _=False, slot=slot: slot())
        acts.full_screen.toggled.connect(self._on_full_screen_toggled)
        acts.themes.triggered.connect(self._on_theme_chosen)
        self.addActions(list(acts.all()))
        self._prompt.generate_clicked.connect(models.studio.generate)
        self._prompt.cancel_clicked.connect(models.engine.cancel_current)
        self._settings.get_model_button.clicked.connect(
            lambda: dialogs.show_models(models.form.form.model)
        )

    def _connect_models(self) -> None:
        models = self._models
        models.settings.changed.connect(self._on_settings_changed)
        models.settings.failed.connect(self.show_notice)
        models.form.save_failed.connect(self.show_status)
        self._form.references.told.connect(self.show_status)
        models.planning.policy.failed.connect(self.show_status)
        models.studio.refused.connect(self._on_refused)
        models.studio.noticed.connect(self._on_noticed)
        models.studio.reused.connect(self._on_reused)
        models.engine.job_submitted.connect(self._on_job_submitted)
        models.results.copied.connect(self._on_picture_saved)
        models.engine.progress_changed.connect(self._on_progress_changed)
        models.status.engine_text_changed.connect(self._engine_label.setText)
        models.status.queue_text_changed.connect(self._show_waiting)
        models.status.attention_wanted.connect(self._on_attention_wanted)
        models.status.tell()
        self._picture.use_settings.connect(models.studio.use)
        self._picture.details_asked.connect(self._dialogs.show_error)

    # What happens.

    @Slot(str)
    def _show_waiting(self, text: str) -> None:
        self._queue_label.setText(text)
        # Empty, it would still take its room.
        self._queue_label.setVisible(bool(text))

    @Slot(object)
    def _on_settings_changed(self, settings: Settings) -> None:
        for action in self._commands.themes.actions():
            action.setChecked(action.data() == settings.theme)

    @Slot(object)
    def _on_refused(self, problems: tuple[RequestProblem, ...]) -> None:
        by_field = {problem.field: problem.message for problem in reversed(problems)}
        self._settings.set_model_problem(by_field.get("model", ""))
        self._prompt.set_problem(by_field.get("prompt", ""))
        self.show_status(problems[0].message)

    @Slot(object)
    def _on_reused(self, reused: Reused) -> None:
        self._error = None
        self._studio_text = reused.text
        kind = "info" if reused.is_whole else "notice"
        self._message.show_message(reused.text, kind=kind, actions=[self._undo_use])

    @Slot(str)
    def _on_noticed(self, text: str) -> None:
        self._studio_text = text
        self.show_notice(text)

    @Slot()
    def _on_job_submitted(self) -> None:
        """What kept a picture from being made is mended; settings that came back are used."""
        self._message.hide_text(self._studio_text)
        self._settings.set_model_problem("")

    @Slot(object)
    def _on_progress_changed(self, progress: RunProgress | None) -> None:
        is_running = progress is not None
        self._commands.cancel.setEnabled(is_running)
        self._prompt.set_running(running=is_running)

    @Slot(object)
    def _on_picture_saved(self, path: Path) -> None:
        self.show_status(self.tr("The picture is saved as {path}.").format(path=path))

    @Slot()
    def _on_attention_wanted(self) -> None:
        if self._models.settings.settings.notify_when_done and not self.isActiveWindow():
            QApplication.alert(self)

    # What the user does.

    def _on_open_picture(self) -> None:
        path = ask_picture(self, self._models.settings.pictures_folder())
        if path is not None:
            self._picture.load_settings_from(path)

    def _on_open_folder(self) -> None:
        folder = self._models.settings.pictures_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = self.tr("The pictures folder {folder} cannot be made ({reason}): ")
            text += self.tr("choose another one under Settings.")
            self.show_notice(text.format(folder=folder, reason=error.strerror))
            return
        if not open_folder(folder):
            self.show_notice(
                self.tr("No file manager could be opened; the folder is {folder}.").format(
                    folder=folder
                )
            )

    def _on_copy(self) -> None:
        if not edit_focused("copy"):
            self._picture.commands.copy_image.trigger()

    def _copy_diagnostics(self) -> None:
        QGuiApplication.clipboard().setText(self._models.diagnostics())
        self.show_status(self.tr("Diagnostics are on the clipboard."))

    def _on_show_details(self) -> None:
        if self._error is not None:
            self._dialogs.show_error(self._error)

    def _on_copy_error(self) -> None:
        if self._error is not None:
            QGuiApplication.clipboard().setText(error_text(self._error))

    def _on_undo_use(self) -> None:
        self._message.hide_text(self._studio_text)
        self._models.studio.undo_use()

    def _on_full_screen_toggled(self, on: bool) -> None:  # noqa: FBT001 - a signal's argument
        state = self.windowState()
        full = Qt.WindowState.WindowFullScreen
        self.setWindowState(state | full if on else state & ~full)

    def _on_theme_chosen(self, action: QAction) -> None:
        settings = self._models.settings
        settings.set_settings(replace(settings.settings, theme=action.data()))

    def _take_path(self, path: Path) -> None:
        if path.is_dir():
            self._models.catalog.add_folder(path)
        else:
            self._picture.load_settings_from(path)

    def _reset_layout(self) -> None:
        self._commands.full_screen.setChecked(False)
        self.showNormal()
        self.restoreState(self._default_state, LAYOUT_VERSION)
        self._arrange()
        window_layout.centre_on_screen(self)

    # Qt's own.

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if dropped_path(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        path = dropped_path(event)
        if path is not None:
            event.acceptProposedAction()
            self._take_path(path)

    def closeEvent(self, event: QCloseEvent) -> None:
        event.ignore()
        if self._is_closing:
            return
        reason = self._models.status.reason_to_stay()
        if reason and not CloseDialog.ask(reason, self):
            return
        self._is_closing = True
        self.save_layout()
        self._dialogs.close_all()
        # Gone at once for the user; the engine is ended behind it, without holding anything up.
        self.hide()
        self.close_confirmed.emit()
