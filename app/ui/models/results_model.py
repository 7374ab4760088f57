"""The pictures of this session, newest first."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QMimeData,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    QUrl,
    Signal,
    Slot,
)
from PySide6.QtGui import QImage

from app.core.errors import OutputError, describe
from app.core.events import ImageDone, JobFinished
from app.core.policy import MemoryPolicy
from app.core.request import GenerationRequest
from app.core.run_report import RunReport
from app.ui.images import ImageLoader, LoadedThumbnail, Source
from app.ui.models.background import Background
from app.ui.models.engine_model import EngineModel
from app.ui.models.picture_files import move_to_trash, restore_from_trash, save_copy
from app.ui.models.picture_memory import PictureMemory

THUMBNAIL_EDGE_PX = 192
"""Sharp at 96 points on a screen of ratio 2."""

RESULT_ROLE = Qt.ItemDataRole.UserRole + 1
"""The row's Result."""

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One picture made in this session.

    Attributes:
        id: Unique; the same when the engine made the picture again after a crash.
        request: Makes exactly this picture: its own seed, one image. None when it is not known.
        seed: It was made with.
        policy: About memory, of its job; None when that is not known.
        path: Of the PNG file, or None while it is only in memory.
        png: The file's bytes while there is no file, else None.
        problem: Why there is no file, one sentence, or "".
    """

    id: str
    request: GenerationRequest | None
    seed: int
    path: Path | None
    policy: MemoryPolicy | None = None
    png: bytes | None = None
    problem: str = ""

    @property
    def is_saved(self) -> bool:
        """Whether it is in a file."""
        return self.path is not None

    @property
    def source(self) -> Source:
        """Where its pixels are."""
        return self.path if self.path is not None else (self.png or b"")

    @property
    def name(self) -> str:
        """For people: the file's name, or what stands for it."""
        return self.path.name if self.path is not None else f"headroom-{self.seed}.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removed:
    """A result taken off the list, and where its file went."""

    row: int
    result: Result
    trashed: Path | None


class ResultsModel(QAbstractListModel):
    """One row per picture; the newest is row 0. GUI thread only.

    Signals:
        result_added: Result, after its row is there.
        result_changed: Result, whose row changed: it was saved.
        copied: Path, where `save_as` has written a picture.
        picture_loaded: LoadedPicture, asked for with `load_picture`.
        report_added: A run's report is there for its pictures.
        failed: ErrorInfo, why a picture could not be saved, trashed or brought back.
    """

    result_added = Signal(object)
    result_changed = Signal(object)
    copied = Signal(object)
    picture_loaded = Signal(object)
    report_added = Signal()
    failed = Signal(object)

    def __init__(
        self, engine: EngineModel, background: Background, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._background = background
        self._loader = ImageLoader(self)
        self._results: list[Result] = []
        self._thumbnails: dict[str, QImage] = {}
        self._removed: _Removed | None = None
        self._reports: dict[str, RunReport] = {}
        engine.image_done.connect(self._on_image_done)
        engine.job_finished.connect(self._on_job_finished)
        self._loader.thumbnail_loaded.connect(self._on_thumbnail_loaded)
        self._loader.picture_loaded.connect(self.picture_loaded)

    def stop(self) -> None:
        """Read no further image; call it before the app ends, twice does no harm."""
        self._loader.stop()

    # Rows.

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._results)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401
        if not index.isValid() or index.row() >= len(self._results):
            return None
        result = self._results[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return result.name
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnails.get(result.id)
        if role in (Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleDescriptionRole):
            return self.describe(result)
        if role == RESULT_ROLE:
            return result
        return None

    def flags(self, index: _Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsDragEnabled if index.isValid() else flags

    def mimeData(self, indexes: Any) -> QMimeData:  # noqa: ANN401 - a sequence, as Qt has it
        data = QMimeData()
        results: list[Result] = [self._results[index.row()] for index in indexes]
        data.setUrls([QUrl.fromLocalFile(str(one.path)) for one in results if one.path is not None])
        return data

    def result(self, row: int) -> Result | None:
        """The result in this row."""
        return self._results[row] if 0 <= row < len(self._results) else None

    def row_of(self, result_id: str) -> int:
        """Where a result is; -1 when it is not on the list."""
        return next((row for row, one in enumerate(self._results) if one.id == result_id), -1)

    @property
    def unsaved(self) -> tuple[Result, ...]:
        """Those that would be lost if the app closed now."""
        return tuple(result for result in self._results if not result.is_saved)

    def report_of(self, result: Result) -> RunReport | None:
        """What was planned and measured when it was made; None where nobody told."""
        return self._reports.get(result.id.rpartition(":")[0])

    def memory_of(self, result: Result) -> PictureMemory | None:
        """How weights and memory were handled when it was made; None where nobody told."""
        if result.policy is None:
            return None
        report = self.report_of(result)
        return PictureMemory.of_run(result.policy, None if report is None else report.plan)

    def describe(self, result: Result) -> str:
        """A result in a few lines, for tooltips and screen readers."""
        name = "{name}" if result.is_saved else self.tr("{name}: not saved")
        lines = [name.format(name=result.name)]
        if result.request is not None:
            lines.append(result.request.prompt)
            lines.append(
                self.tr("{width} × {height} px, seed {seed}").format(
                    width=result.request.width_px,
                    height=result.request.height_px,
                    seed=result.seed,
                )
            )
        return "\n".join(lines)

    # What can be done with them.

    def load_picture(self, result: Result) -> None:
        """Read a picture in full; `picture_loaded` brings the one asked for last."""
        self._loader.load_picture(result.id, result.source)

    def save_as(self, result_id: str, target: Path) -> None:
        """Write a picture to another file, in a thread: the disk may be slow.

        `copied` or `failed` tells the outcome; a picture that was only in memory is there from
        then on.
        """
        result = self.result(self.row_of(result_id))
        if result is None:
            return
        source = result.source
        self._background.run(
            lambda: save_copy(source, target),
            lambda _nothing: self._on_copied(result_id, target),
            self._on_copy_failed,
            keep=True,
        )

    def trash(self, result_id: str) -> bool:
        """Move a picture to the system's trash and off the list; `undo_trash` brings it back."""
        row = self.row_of(result_id)
        if row < 0:
            return False
        result = self._results[row]
        path, trashed = result.path, list[Path | None]()
        # A file someone else removed already only has to leave the list.
        if (
            path is not None
            and path.exists()
            and not self._succeeds(lambda: trashed.append(move_to_trash(path)))
        ):
            return False
        self._removed = _Removed(row=row, result=result, trashed=trashed[0] if trashed else None)
        self.beginRemoveRows(_ROOT, row, row)
        del self._results[row]
        self.endRemoveRows()
        return True

    @property
    def can_undo_trash(self) -> bool:
        """Whether the last picture trashed can be brought back."""
        removed = self._removed
        return removed is not None and (removed.trashed is not None or not removed.result.is_saved)

    def undo_trash(self) -> Result | None:
        """Bring the last picture trashed back, file and row; None when it cannot."""
        removed = self._removed
        if removed is None or not self.can_undo_trash:
            return None
        trashed, path = removed.trashed, removed.result.path
        if (
            trashed is not None
            and path is not None
            and not self._succeeds(lambda: restore_from_trash(trashed, path))
        ):
            return None
        self._removed = None
        self._insert(min(removed.row, len(self._results)), removed.result)
        return removed.result

    def _succeeds(self, act: Callable[[], None]) -> bool:
        """Do it; what goes wrong is told by `failed`."""
        try:
            act()
        except OutputError as error:
            self.failed.emit(error.info())
            return False
        return True

    def _on_copied(self, result_id: str, target: Path) -> None:
        result = self.result(self.row_of(result_id))
        if result is not None and not result.is_saved:
            saved = replace(result, path=target, png=None, problem="")
            self._replace(self.row_of(result_id), saved)
        self.copied.emit(target)

    def _on_copy_failed(self, error: Exception) -> None:
        self.failed.emit(describe(error))

    # Events.

    @Slot(object)
    def _on_image_done(self, event: ImageDone) -> None:
        job = self._engine.job(event.job_id)
        result = Result(
            id=f"{event.job_id}:{event.index}",
            request=None if job is None else replace(job.request, seed=event.seed, images=1),
            seed=event.seed,
            policy=None if job is None else job.policy,
            path=None if event.path is None else Path(event.path),
            png=event.png,
            problem="" if event.problem is None else event.problem.message,
        )
        row = self.row_of(result.id)
        if row >= 0:
            self._replace(row, result)
        else:
            self._insert(0, result)
        self.result_added.emit(result)

    @Slot(object)
    def _on_job_finished(self, event: JobFinished) -> None:
        if event.report is not None:
            self._reports[event.job_id] = event.report
            self.report_added.emit()

    @Slot(object)
    def _on_thumbnail_loaded(self, loaded: LoadedThumbnail) -> None:
        row = self.row_of(loaded.key)
        if row < 0 or loaded.image.isNull():
            return
        self._thumbnails[loaded.key] = loaded.image
        index = self.index(row)
        self.dataChanged.emit(index, index, [Qt.ItemDataRole.DecorationRole])

    def _insert(self, row: int, result: Result) -> None:
        self.beginInsertRows(_ROOT, row, row)
        self._results.insert(row, result)
        self.endInsertRows()
        if result.id not in self._thumbnails:
            self._loader.load_thumbnail(result.id, result.source, THUMBNAIL_EDGE_PX)

    def _replace(self, row: int, result: Result) -> None:
        self._results[row] = result
        index = self.index(row)
        self.dataChanged.emit(index, index)
        self.result_changed.emit(result)
