"""What is kept on the disk and can be made again: converted weights, embeddings of prompts."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
    Slot,
)

from app.core.units import format_bytes
from app.engine.planning.precisions import PRECISION_WORDS
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import KeptFile, kept_files, remove
from app.ui.models.background import Background
from app.ui.models.engine_model import EngineModel
from app.ui.models.plan_model import PlanModel

log = logging.getLogger(__name__)

KEPT_ROLE = Qt.ItemDataRole.UserRole + 1
_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    files: tuple[KeptFile, ...]
    prompts_bytes: int
    problems: tuple[str, ...] = ()


class KeptModel(QAbstractListModel):
    """Rows of KeptFile, the last used first; and how large the kept prompts are.

    Looks at the disk when it is first asked to, and again after each job from then on.

    Signals:
        refreshed(): Rows and sizes are as they are on the disk now.
        refused(str): A sentence; something was not removed.
    """

    refreshed = Signal()
    refused = Signal(str)

    def __init__(
        self,
        engine: EngineModel,
        plans: PlanModel,
        background: Background,
        *,
        converted: Path,
        embeddings: Path,
        parent: QObject | None = None,
    ) -> None:
        """Look at nothing before `refresh`.

        Args:
            engine: Tells whether a run is going on.
            plans: What is kept is counted in them.
            background: Where the disk is looked at.
            converted: Folder of the converted weights.
            embeddings: Folder of prompts' embeddings.
            parent: Owner.
        """
        super().__init__(parent)
        self._engine = engine
        self._background = background
        self._converted = converted
        self._prompts = prompt_folder(embeddings)
        self._found = _Found(files=(), prompts_bytes=0)
        self._is_watched = False
        self.refreshed.connect(plans.look_again)
        for ended in (engine.job_finished, engine.job_failed, engine.job_cancelled):
            ended.connect(self._on_job_ended)

    # Rows.

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._found.files)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401
        if not index.isValid() or index.row() >= len(self._found.files):
            return None
        kept = self._found.files[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self.tr("{name}: {size}").format(
                name=self.name(kept), size=format_bytes(kept.size_bytes)
            )
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(kept.path)
        if role == KEPT_ROLE:
            return kept
        return None

    # What is.

    @property
    def converted_bytes(self) -> int:
        """Of all converted files together."""
        return sum(kept.size_bytes for kept in self._found.files)

    @property
    def prompts_bytes(self) -> int:
        """Of all kept embeddings together."""
        return self._found.prompts_bytes

    def name(self, kept: KeptFile) -> str:
        """A converted file for people."""
        return self.tr("{model}, {component} in {precision}").format(
            model=kept.model or self.tr("Unknown model"),
            component=kept.component.replace("_", " "),
            precision=PRECISION_WORDS.get(kept.precision, kept.precision.value),
        )

    def refusal(self) -> str:
        """Why converted files cannot be removed now, in a sentence; "" when they can."""
        if self._engine.current_job is None:
            return ""
        return self.tr(
            "A run is going on, which may be using these files: remove them when it is done."
        )

    # What the user wants.

    @Slot()
    def refresh(self) -> None:
        """Look at the disk again, beside the window."""
        self._is_watched = True
        self._background.run(self._look, self._on_found, self._on_failed)

    def remove(self, files: Iterable[KeptFile]) -> None:
        """Remove converted files for good, unless a run is going on; they can be made again."""
        refusal = self.refusal()
        if refusal:
            self.refused.emit(refusal)
            return
        chosen = tuple(files)
        self._background.run(lambda: self._remove(chosen), self._on_found, self._on_failed)

    @Slot()
    def clear_prompts(self) -> None:
        """Remove all kept embeddings for good; a run that wants one of them makes it again."""
        self._background.run(self._clear_prompts, self._on_found, self._on_failed)

    # In a thread.

    def _look(self, problems: Iterable[str] = ()) -> _Found:
        return _Found(
            files=tuple(kept_files(self._converted)),
            prompts_bytes=self._prompts.size_bytes(),
            problems=tuple(problems),
        )

    def _remove(self, chosen: tuple[KeptFile, ...]) -> _Found:
        problems: list[str] = []
        for kept in chosen:
            try:
                remove(kept)
            except OSError as error:
                log.info("%s cannot be removed: %s", kept.path, error)
                problems.append(
                    self.tr(
                        "{name} cannot be removed ({reason}): it may still be open. Restart "
                        "Headroom, close other programs that use it, and try again."
                    ).format(name=self.name(kept), reason=error.strerror or error)
                )
        return self._look(problems)

    def _clear_prompts(self) -> _Found:
        self._prompts.clear()
        found = self._look()
        if not found.prompts_bytes:
            return found
        problem = self.tr("Some kept prompts cannot be removed: allow writing in their folder.")
        return self._look((problem,))

    # Inside.

    @Slot(object)
    def _on_job_ended(self, _event: object) -> None:
        if self._is_watched:
            self.refresh()

    def _on_found(self, found: _Found) -> None:
        if found.files != self._found.files:
            self.beginResetModel()
            self._found = found
            self.endResetModel()
        self._found = found
        self.refreshed.emit()
        for problem in found.problems:
            self.refused.emit(problem)

    def _on_failed(self, error: Exception) -> None:
        log.error("what is kept cannot be listed: %s", error)
