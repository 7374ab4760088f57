"""The queue as a list: running, waiting, ended."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Slot

from app.core.events import QueueChanged
from app.core.jobs import Job, JobState
from app.ui.models.engine_model import EngineModel
from app.ui.models.run_progress import RunProgress

JOB_ROLE = Qt.ItemDataRole.UserRole + 1
"""The row's Job."""
PROGRESS_ROLE = Qt.ItemDataRole.UserRole + 2
"""RunProgress of the running job, else None."""

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()
EXCERPT_CHARACTERS = 80


class JobsModel(QAbstractListModel):
    """One row per job of the last QueueChanged; rows keep their identity when jobs move."""

    def __init__(self, engine: EngineModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._jobs: list[Job] = list(engine.jobs)
        self._progress: RunProgress | None = engine.progress()
        engine.queue_changed.connect(self._on_queue_changed)
        engine.progress_changed.connect(self._on_progress_changed)

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._jobs)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401
        if not index.isValid() or index.row() >= len(self._jobs):
            return None
        job = self._jobs[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return prompt_excerpt(job)
        if role == Qt.ItemDataRole.ToolTipRole:
            return job.request.prompt
        if role in (
            Qt.ItemDataRole.AccessibleTextRole,
            Qt.ItemDataRole.AccessibleDescriptionRole,
        ):
            return self.describe(job)
        if role == JOB_ROLE:
            return job
        if role == PROGRESS_ROLE:
            progress = self._progress
            return progress if progress is not None and progress.job.id == job.id else None
        return None

    def flags(self, index: _Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        job = self.job(index.row()) if index.isValid() else None
        if job is not None and job.state is JobState.QUEUED:
            return flags | Qt.ItemFlag.ItemIsDragEnabled
        return flags if index.isValid() else flags | Qt.ItemFlag.ItemIsDropEnabled

    def supportedDropActions(self) -> Qt.DropAction:
        return Qt.DropAction.MoveAction

    def job(self, row: int) -> Job | None:
        """The job in this row."""
        return self._jobs[row] if 0 <= row < len(self._jobs) else None

    def row_of(self, job_id: str) -> int:
        """Where a job is; -1 when it is not on the list."""
        return next((row for row, job in enumerate(self._jobs) if job.id == job_id), -1)

    def queued_index(self, job_id: str) -> int:
        """A job's place among the queued ones, from 0; -1 when it does not wait."""
        queued = [job.id for job in self._jobs if job.state is JobState.QUEUED]
        return queued.index(job_id) if job_id in queued else -1

    def count(self, *states: JobState) -> int:
        """How many jobs are in one of these states."""
        return sum(job.state in states for job in self._jobs)

    def drop_index(self, job_id: str, row: int) -> int:
        """The place among the queued jobs that a drop before `row` means; -1 when none.

        Drops above the running job or below the ended ones count as first and last.
        """
        own = self.queued_index(job_id)
        if own < 0:
            return -1
        before = sum(job.state is JobState.QUEUED for job in self._jobs[: max(0, row)])
        # Its own row is taken out first, which moves everything behind it up by one.
        return before - 1 if before > own else before

    def state_word(self, state: JobState) -> str:
        """A state in one word, for people."""
        return {
            JobState.QUEUED: self.tr("Waiting"),
            JobState.RUNNING: self.tr("Running"),
            JobState.FINISHED: self.tr("Done"),
            JobState.CANCELLED: self.tr("Cancelled"),
            JobState.FAILED: self.tr("Failed"),
        }[state]

    def detail(self, job: Job) -> str:
        """Size, number of images, steps and model in one line."""
        request = job.request
        images = "" if request.images == 1 else self.tr(" · {n} images").format(n=request.images)
        steps = self.tr("1 step") if request.steps == 1 else self.tr("{n} steps")
        count = len(request.references)
        references = "" if count == 0 else self.tr(" · {n} references").format(n=count)
        if count == 1:
            references = self.tr(" · 1 reference")
        text = self.tr("{width} × {height} px{images}{references} · {steps} · {model}")
        return text.format(
            width=request.width_px,
            height=request.height_px,
            images=images,
            references=references,
            steps=steps.format(n=request.steps),
            model=model_name(request.model),
        )

    def describe(self, job: Job) -> str:
        """A job in one line, for screen readers."""
        parts = [self.state_word(job.state), prompt_excerpt(job), self.detail(job)]
        if job.error is not None:
            parts.append(job.error.message)
        return ": ".join((parts[0], ", ".join(parts[1:])))

    @Slot(object)
    def _on_queue_changed(self, event: QueueChanged) -> None:
        self._remove_missing({job.id for job in event.jobs})
        self._place(event.jobs)

    def _remove_missing(self, kept: set[str]) -> None:
        for row in range(len(self._jobs) - 1, -1, -1):
            if self._jobs[row].id not in kept:
                self.beginRemoveRows(_ROOT, row, row)
                del self._jobs[row]
                self.endRemoveRows()

    def _place(self, jobs: Sequence[Job]) -> None:
        """Move, insert and update rows until they are `jobs`: selection and scrolling stay."""
        for row, job in enumerate(jobs):
            # Most stay where they are, and a queue may be long.
            stays = row < len(self._jobs) and self._jobs[row].id == job.id
            known = row if stays else self.row_of(job.id)
            if known < 0:
                self.beginInsertRows(_ROOT, row, row)
                self._jobs.insert(row, job)
                self.endInsertRows()
                continue
            if known != row:
                self.beginMoveRows(_ROOT, known, known, _ROOT, row)
                self._jobs.insert(row, self._jobs.pop(known))
                self.endMoveRows()
            if self._jobs[row] != job:
                self._jobs[row] = job
                self._changed(row)

    @Slot(object)
    def _on_progress_changed(self, progress: RunProgress | None) -> None:
        before, self._progress = self._progress, progress
        for known in {p.job.id for p in (before, progress) if p is not None}:
            row = self.row_of(known)
            if row >= 0:
                self._changed(row)

    def _changed(self, row: int) -> None:
        index = self.index(row)
        self.dataChanged.emit(index, index)


def prompt_excerpt(job: Job) -> str:
    """The prompt in one line of bearable length."""
    line = " ".join(job.request.prompt.split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"


def model_name(model: str) -> str:
    """A known model's name, or the last part of a folder's path."""
    return model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or model
