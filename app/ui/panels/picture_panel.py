"""The middle of the window: the picture, how the running one is getting on, and the session's."""

from pathlib import Path

from PySide6.QtCore import QModelIndex, QSize, Qt, Signal, Slot
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from app.core.errors import ErrorInfo
from app.core.events import (
    CONVERTING_CODE,
    FORESEEN_CODE,
    REPEATED_CODE,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.units import format_seconds
from app.ui import theme
from app.ui.images import LoadedPicture, image_of_preview
from app.ui.models.engine_model import EngineModel
from app.ui.models.results_model import RESULT_ROLE, Result, ResultsModel
from app.ui.models.run_progress import RunProgress
from app.ui.panels.picture_actions import PictureActions
from app.ui.panels.picture_toolbar import PictureToolbar
from app.ui.panels.result_commands import ResultCommands
from app.ui.widgets.image_view import ImageView
from app.ui.widgets.message_bar import MessageBar
from app.ui.widgets.progress_row import ProgressRow
from app.ui.widgets.thumbnail_strip import ThumbnailStrip


class PicturePanel(QFrame):
    """Shows the picture chosen below it, or follows the one being made.

    Attributes:
        commands: Actions on the picture, also for the window's menus.

    Signals:
        use_settings: GenerationRequest that makes exactly the picture, and PictureMemory or None.
        details_asked: ErrorInfo of the failure the user wants to know more about.
    """

    use_settings = Signal(object, object)
    details_asked = Signal(object)

    def __init__(
        self, engine: EngineModel, results: ResultsModel, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._results = results
        self._failed_job_id = ""
        self._error: ErrorInfo | None = None
        self._preview: tuple[QImage, QSize] | None = None
        self._converting_text = ""
        self._trouble_text = ""
        self._paused_text = self.tr("The queue is paused: this picture waits until you resume it.")
        self._is_choosing = False
        self.setObjectName("picture_panel")
        self.setAccessibleName(self.tr("Picture and results"))
        theme.set_role(self, "card")
        self.commands = PictureActions(self)
        self._view = ImageView(self)
        self._on_result = ResultCommands(self.commands, results, self._view, self)
        self._row = ProgressRow(self)
        self._strip = ThumbnailStrip(results, self)
        self._message = MessageBar("picture_message", self)
        self._unsaved = MessageBar("picture_unsaved", self)
        self._toolbar = PictureToolbar(self.commands, self)
        self._lay_out()
        self._connect_engine()
        self._connect_results()
        self._connect_commands()
        self._show_result(None)

    @Slot(object)
    def load_settings_from(self, path: Path) -> None:
        """Bring back the settings in a picture's file, or say that it has none."""
        self._on_result.use_file(path)

    # Building.

    def _lay_out(self) -> None:
        gap = theme.SPACING_PX
        column = QVBoxLayout(self)
        column.setContentsMargins(gap, gap, gap, gap)
        column.setSpacing(gap)
        column.addWidget(self._toolbar)
        column.addWidget(self._message)
        column.addWidget(self._unsaved)
        column.addWidget(self._view, 1)
        column.addWidget(self._row)
        column.addWidget(self._strip)
        self._strip.hide()

    def _connect_engine(self) -> None:
        engine = self._engine
        engine.progress_changed.connect(self._on_progress_changed)
        engine.step_done.connect(self._on_step_done)
        engine.job_submitted.connect(self._on_job_submitted)
        engine.job_finished.connect(self._on_job_finished)
        engine.job_cancelled.connect(self._on_job_cancelled)
        engine.job_failed.connect(self._on_job_failed)
        engine.queue_changed.connect(self._on_queue_changed)
        engine.notice.connect(self._on_notice)
        engine.engine_state_changed.connect(self._on_engine_state_changed)
        self._row.cancel_clicked.connect(engine.cancel_current)

    def _connect_results(self) -> None:
        results = self._results
        results.result_added.connect(self._on_result_added)
        results.result_changed.connect(self._on_result_changed)
        results.picture_loaded.connect(self._on_picture_loaded)
        results.failed.connect(self._on_failed)
        results.rowsInserted.connect(self._on_rows_changed)
        results.rowsRemoved.connect(self._on_rows_changed)
        self._strip.selectionModel().currentChanged.connect(self._on_current_changed)
        self._strip.clicked.connect(self._on_thumbnail_clicked)

    def _connect_commands(self) -> None:
        commands, on_result = self.commands, self._on_result
        commands.connect_all(
            {
                commands.fit: self._view.fit,
                commands.actual_size: self._view.show_actual_size,
                commands.zoom_in: self._zoom_in,
                commands.zoom_out: self._zoom_out,
                commands.retry: self._retry,
                commands.resume: self._engine.resume,
                commands.details: self._ask_for_details,
            }
        )
        commands.follow.toggled.connect(self._on_follow_toggled)
        for widget in (self._view, self._strip):
            widget.addActions(list(commands.on_picture))
            widget.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.addActions([*commands.zooming, *commands.on_picture, commands.undo_trash])
        on_result.use_settings.connect(self.use_settings)
        on_result.trashed.connect(self._on_trashed)
        on_result.restored.connect(self._on_restored)
        on_result.told.connect(self._on_told)
        self._view.zoom_changed.connect(self._on_zoom_changed)
        self._view.drag_wanted.connect(on_result.drag)
        self._view.file_dropped.connect(self.load_settings_from)

    # A run.

    @Slot(object)
    def _on_progress_changed(self, progress: RunProgress | None) -> None:
        if progress is None or progress.phase is Phase.DENOISE:
            self._hide_converting()
        if progress is not None:
            self._row.show_progress(progress)

    @Slot(object)
    def _on_step_done(self, event: StepDone) -> None:
        job = self._engine.job(event.job_id)
        if event.preview is None or job is None:
            return
        size = QSize(job.request.width_px, job.request.height_px)
        self._preview = (image_of_preview(event.preview), size)
        if self.commands.follow.isChecked():
            self._view.show_preview(*self._preview)

    @Slot(object)
    def _on_job_submitted(self, job: Job) -> None:
        self.commands.follow.setChecked(True)
        if self._engine.paused:
            # The queue may be hidden; else one would wait for a picture that nobody makes.
            self._message.show_message(
                self._paused_text, kind="notice", actions=[self.commands.resume]
            )
        elif self._message.kind != "problem":
            self._message.hide()
        failed = self._engine.job(self._failed_job_id)
        if failed is not None and failed.request == job.request:
            # Tried again, here or from the queue.
            self._hide_failure()

    @Slot()
    def _on_queue_changed(self) -> None:
        if not self._engine.paused:
            self._message.hide_text(self._paused_text)
        # A job that was cleared away has no settings to try again.
        self.commands.retry.setEnabled(self._engine.job(self._failed_job_id) is not None)

    @Slot(object)
    def _on_job_finished(self, event: JobFinished) -> None:
        self._hide_failure()
        self._hide_trouble()
        # The picture itself is on its way from the disk; until then the last preview stays.
        self._preview = None
        self._row.show_outcome(self.tr("Done in {time}").format(time=format_seconds(event.seconds)))

    @Slot(object)
    def _on_job_cancelled(self, event: JobCancelled) -> None:
        del event
        self._end_without_picture(self.tr("Cancelled"))

    @Slot(object)
    def _on_job_failed(self, event: JobFailed) -> None:
        self._failed_job_id, self._error = event.job_id, event.error
        self.commands.retry.setEnabled(self._engine.job(event.job_id) is not None)
        self._message.show_message(
            event.error.message,
            kind="problem",
            actions=[self.commands.retry, self.commands.details],
        )
        self._end_without_picture(self.tr("Failed"))

    def _hide_failure(self) -> None:
        """What failed before is old news; what else the message says stays."""
        if self._error is not None:
            self._message.hide_text(self._error.message)

    def _end_without_picture(self, outcome: str) -> None:
        # A waiting job was taken back while another runs on: that one's progress stays.
        if self._engine.current_job is not None:
            return
        self._preview = None
        self._row.show_outcome(outcome)
        self._view.end_preview()

    @Slot(object)
    def _on_notice(self, event: Notice) -> None:
        # The row below shows how far converting is; it is no warning, and old news afterwards.
        converting = event.code == CONVERTING_CODE
        self._converting_text = event.message if converting else ""
        if event.code in (FORESEEN_CODE, REPEATED_CODE):
            self._trouble_text = event.message
        self._message.show_message(event.message, kind="info" if converting else "notice")

    def _hide_converting(self) -> None:
        self._message.hide_text(self._converting_text)
        self._converting_text = ""

    def _hide_trouble(self) -> None:
        """What went wrong on the way to a picture that was made all the same is old news."""
        self._message.hide_text(self._trouble_text)
        self._trouble_text = ""

    @Slot(object)
    def _on_engine_state_changed(self, event: EngineStateChanged) -> None:
        # Also of an engine that ended with nothing to do: the next picture takes longer.
        if event.reason:
            self._trouble_text = event.reason
            self._message.show_message(event.reason, kind="notice")

    @Slot()
    def _retry(self) -> None:
        self._message.hide()
        self._engine.retry(self._failed_job_id)

    @Slot()
    def _ask_for_details(self) -> None:
        if self._error is not None:
            self.details_asked.emit(self._error)

    @Slot(bool)
    def _on_follow_toggled(self, checked: bool) -> None:  # noqa: FBT001 - Qt's signal
        if not checked:
            return
        if self._preview is not None:
            self._view.show_preview(*self._preview)
        elif self._results.rowCount():
            self._choose(0)

    # Results.

    @Slot(object)
    def _on_result_added(self, result: Result) -> None:
        if self.commands.follow.isChecked():
            self._choose(self._results.row_of(result.id))

    @Slot(object)
    def _on_restored(self, result: Result) -> None:
        self._message.hide()
        self._choose(self._results.row_of(result.id))

    @Slot(object)
    def _on_result_changed(self, result: Result) -> None:
        shown = self._on_result.result
        if shown is not None and shown.id == result.id:
            self._show_result(result)

    @Slot()
    def _on_rows_changed(self) -> None:
        self._strip.setVisible(self._results.rowCount() > 0)

    def _choose(self, row: int) -> None:
        """Show a result because of what happened, not because the user picked it."""
        if self._strip.current_row() == row:
            self._show_result(self._results.result(row))
            return
        self._is_choosing = True
        self._strip.set_current_row(row)
        self._is_choosing = False

    @Slot(QModelIndex, QModelIndex)
    def _on_current_changed(self, current: QModelIndex, previous: QModelIndex) -> None:
        del previous
        if not self._is_choosing:
            is_newest = current.row() == 0 and self._engine.current_job is None
            self.commands.follow.setChecked(is_newest)
        self._show_result(current.data(RESULT_ROLE) if current.isValid() else None)

    @Slot(QModelIndex)
    def _on_thumbnail_clicked(self, index: QModelIndex) -> None:
        # The current thumbnail is clicked while a preview covers its picture.
        del index
        if self._view.shows_preview:
            self.commands.follow.setChecked(False)
            self._view.end_preview()

    def _show_result(self, result: Result | None) -> None:
        self._on_result.set_result(result)
        if result is None:
            self._unsaved.hide()
            self._view.setAccessibleDescription("")
            self._view.clear(
                self.tr("Your picture appears here"),
                self.tr(
                    "Describe it on the left and press Generate (Ctrl+Enter). "
                    "Or drop a picture made here to get its settings back."
                ),
            )
            return
        self._view.setAccessibleDescription(self._results.describe(result))
        if result.is_saved:
            self._unsaved.hide()
        else:
            self._unsaved.show_message(
                result.problem or self.tr("The picture is not saved."),
                kind="problem",
                actions=[self.commands.save_as],
            )
        self._results.load_picture(result)

    @Slot(object)
    def _on_picture_loaded(self, loaded: LoadedPicture) -> None:
        result = self._on_result.result
        if result is None or result.id != loaded.key:
            return
        if loaded.picture is not None:
            self._view.show_picture(loaded.picture)
            return
        self._view.clear(
            self.tr("This picture cannot be shown"),
            self.tr("{path} may have been moved or deleted.").format(path=result.path),
        )

    @Slot(object)
    def _on_failed(self, error: ErrorInfo) -> None:
        self._message.show_message(error.message, kind="problem")

    @Slot(object)
    def _on_told(self, text: str) -> None:
        self._message.show_message(text, kind="notice")

    @Slot(object)
    def _on_trashed(self, text: str) -> None:
        undo = [self.commands.undo_trash] if self._results.can_undo_trash else []
        self._message.show_message(text, actions=undo)

    # The view.

    @Slot()
    def _zoom_in(self) -> None:
        self._view.zoom_by(1)

    @Slot()
    def _zoom_out(self) -> None:
        self._view.zoom_by(-1)

    @Slot(object)
    def _on_zoom_changed(self, scale: float | None) -> None:
        self._toolbar.set_zoom("" if scale is None else f"{scale:.0%}".replace("%", " %"))
        for action in self.commands.zooming:
            action.setEnabled(scale is not None)
