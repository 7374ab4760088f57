"""What the status line says, when to ask for attention, and what closing would cost."""

from PySide6.QtCore import QObject, Signal, Slot

from app.core.events import EngineReady, EngineState, EngineStateChanged
from app.core.jobs import JobState
from app.ui.models.engine_model import EngineModel
from app.ui.models.results_model import ResultsModel
from app.ui.models.run_progress import RunProgress


class StatusModel(QObject):
    """Puts the engine's and the queue's state into words.

    Signals:
        engine_text_changed(str), queue_text_changed(str): For the status line.
        attention_wanted(): A job has ended, well or not, and no other runs.
    """

    engine_text_changed = Signal(str)
    queue_text_changed = Signal(str)
    attention_wanted = Signal()

    def __init__(
        self, engine: EngineModel, results: ResultsModel, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._results = results
        self._is_waiting = False
        engine.engine_state_changed.connect(self._on_engine_state_changed)
        engine.engine_ready.connect(self._on_engine_ready)
        engine.progress_changed.connect(self._on_progress_changed)
        engine.queue_changed.connect(self._on_queue_changed)
        engine.job_finished.connect(self._on_job_ended)
        engine.job_failed.connect(self._on_job_ended)

    def tell(self) -> None:
        """Emit what there is to say now."""
        self.engine_text_changed.emit(self._engine_text())
        self.queue_text_changed.emit(self._queue_text())

    def reason_to_stay(self) -> str:
        """What closing now would interrupt or lose, as a question; "" when nothing."""
        parts: list[str] = []
        unsaved = len(self._results.unsaved)
        if unsaved == 1:
            parts.append(self.tr("One picture could not be saved and would be lost."))
        elif unsaved:
            parts.append(
                self.tr("{count} pictures could not be saved and would be lost.").format(
                    count=unsaved
                )
            )
        if self._engine.current_job is not None:
            parts.append(
                self.tr(
                    "A picture is being made. It is kept in the queue, with all that wait, and "
                    "can be made after the next start."
                )
            )
        return "\n\n".join(parts)

    def _engine_text(self) -> str:
        ready = self._engine.ready
        where = ready.device_name if ready is not None else ""
        texts = {
            EngineState.STOPPED: self.tr("Engine not started"),
            EngineState.STARTING: self.tr("Engine starting…"),
            EngineState.READY: self.tr("Engine ready"),
            EngineState.BUSY: self.tr("Engine at work"),
            EngineState.RESTARTING: self.tr("Engine restarting…"),
        }
        text = texts[self._engine.engine_state]
        if self._is_waiting and self._engine.engine_state is EngineState.BUSY:
            text = self.tr("Engine waits for GPU memory")
        running = self._engine.engine_state in (EngineState.READY, EngineState.BUSY)
        return f"{text}  ·  {where}" if running and where else text

    def _queue_text(self) -> str:
        waiting = len(self._engine.queued_jobs)
        if not waiting:
            return ""
        text = self.tr("{count} waiting").format(count=waiting)
        return self.tr("{text} (paused)").format(text=text) if self._engine.paused else text

    @Slot(object)
    def _on_engine_state_changed(self, _event: EngineStateChanged) -> None:
        self.engine_text_changed.emit(self._engine_text())

    @Slot(object)
    def _on_engine_ready(self, _event: EngineReady) -> None:
        self.engine_text_changed.emit(self._engine_text())

    @Slot(object)
    def _on_progress_changed(self, progress: RunProgress | None) -> None:
        is_waiting = progress is not None and progress.waiting is not None
        if is_waiting != self._is_waiting:
            self._is_waiting = is_waiting
            self.engine_text_changed.emit(self._engine_text())

    @Slot(object)
    def _on_queue_changed(self, _event: object) -> None:
        self.queue_text_changed.emit(self._queue_text())

    @Slot(object)
    def _on_job_ended(self, _event: object) -> None:
        if all(job.state is not JobState.QUEUED for job in self._engine.jobs):
            self.attention_wanted.emit()
