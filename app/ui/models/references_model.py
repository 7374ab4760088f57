"""The reference images of the next picture: a list over the form, and what is in each file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from PySide6.QtGui import QImage

from app.core.errors import describe
from app.core.events import Preview
from app.core.request import MAX_REFERENCES, GenerationRequest
from app.ui.images import image_of_preview
from app.ui.models.background import Background
from app.ui.models.form import Form
from app.ui.models.pasted_pictures import keep_picture, sweep_pictures
from app.ui.models.request_model import RequestModel

THUMBNAIL_EDGE_PX = 96
"""Sharp at 48 points on a screen of ratio 2."""
ASSUMED_SIZE = (1024, 1024)
"""What a file is planned as until it is looked at: about the most that FLUX.2 reads of one."""
REFERENCE_ROLE = Qt.ItemDataRole.UserRole + 1
"""The row's Reference."""

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """One reference image.

    Attributes:
        path: Of its file, absolute.
        size: Width and height in pixels; None until it is looked at, or where it is no image.
        problem: Why it cannot be one, a sentence, or "".
        thumbnail: Null until it is looked at.
    """

    path: str
    size: tuple[int, int] | None = None
    problem: str = ""
    thumbnail: QImage

    @property
    def name(self) -> str:
        """For people."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was found in a file."""

    size: tuple[int, int]
    small: Preview


class ReferencesModel(QAbstractListModel):
    """One row per reference image of the form, which stays the one place that holds their paths.

    Files are looked at in a thread; GUI thread only.

    Signals:
        sizes_changed(): More is known of the files: plans and costs may be others.
        rows_changed(): There are other rows, or another order.
        told(str): A sentence about something that was, or was not, added.
    """

    sizes_changed = Signal()
    rows_changed = Signal()
    told = Signal(str)

    def __init__(
        self,
        form: RequestModel,
        background: Background,
        pasted: Path,
        parent: QObject | None = None,
    ) -> None:
        """Follow the form.

        Args:
            form: Holds the paths.
            background: Where files are looked at.
            pasted: Folder for pictures that have no file.
            parent: Owner.
        """
        super().__init__(parent)
        self._form = form
        self._background = background
        self._pasted = pasted
        self._rows: list[Reference] = []
        self._looked: dict[str, Reference] = {}

        form.changed.connect(self._on_form_changed)
        self._follow(form.form.references)
        kept = form.form.references
        background.run(lambda: sweep_pictures(pasted, kept), lambda _nothing: None, _ignore)

    # Rows.

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        row = self._rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return row.name
        if role == Qt.ItemDataRole.DecorationRole:
            return None if row.thumbnail.isNull() else row.thumbnail
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.problem or row.path
        if role == REFERENCE_ROLE:
            return row
        return None

    @property
    def references(self) -> tuple[Reference, ...]:
        """All rows, in order."""
        return tuple(self._rows)

    @property
    def can_add(self) -> bool:
        """Whether there may be more."""
        return len(self._rows) < MAX_REFERENCES

    def sizes_of(self, request: GenerationRequest) -> tuple[tuple[int, int], ...]:
        """Width and height of a request's reference images, for its plan."""
        return tuple(self._size(path) for path in request.references)

    # What the user does.

    def add(self, paths: Iterable[str | Path], *, before: int | None = None) -> None:
        """Put files on the list, at its end or before a row; those on it stay where they are.

        Args:
            paths: Of any files: what is wrong with one, its row will say.
            before: A row, or None for the end.
        """
        known = list(self._form.form.references)
        new: list[str] = []
        for path in map(str, paths):
            whole = str(Path(path).absolute())
            if whole not in known and whole not in new:
                new.append(whole)
        taken = new[: MAX_REFERENCES - len(known)]
        at = len(known) if before is None else before
        self._form.set_references([*known[:at], *taken, *known[at:]])
        if len(taken) < len(new):
            self.told.emit(
                self.tr("There can be {most} reference images: {n} more were left out.").format(
                    most=MAX_REFERENCES, n=len(new) - len(taken)
                )
            )
        elif not new:
            self.told.emit(self.tr("It is among the reference images already."))

    def add_image(self, image: QImage) -> None:
        """Put a picture that has no file on the list, as one that is pasted; it gets one."""
        self._background.run(
            lambda: keep_picture(image, self._pasted),
            lambda path: self.add([path]),
            lambda error: self.told.emit(describe(error).message),
        )

    def remove(self, row: int) -> None:
        """Take one off the list; its file stays."""
        paths = list(self._form.form.references)
        if 0 <= row < len(paths):
            del paths[row]
            self._form.set_references(paths)

    def move(self, row: int, to: int) -> None:
        """Give one another place; both count from 0."""
        paths = list(self._form.form.references)
        if 0 <= row < len(paths) and 0 <= to < len(paths) and row != to:
            paths.insert(to, paths.pop(row))
            self._form.set_references(paths)

    @Slot()
    def look_again(self) -> None:
        """Look at all files anew: they may have changed, come back, or gone."""
        for path in dict.fromkeys(self._form.form.references):
            self._look(path)

    # Inside.

    @Slot(object)
    def _on_form_changed(self, form: Form) -> None:
        if form.references != tuple(row.path for row in self._rows):
            self._follow(form.references)

    def _follow(self, paths: Sequence[str]) -> None:
        """Have these rows."""
        new = [path for path in dict.fromkeys(paths) if path not in self._looked]
        # Those that left are forgotten: their files may be others when they come back.
        self._looked = {
            path: self._looked.get(path, Reference(path=path, thumbnail=QImage())) for path in paths
        }
        self.beginResetModel()
        self._rows = [self._looked[path] for path in paths]
        self.endResetModel()
        for path in new:
            self._look(path)
        self.rows_changed.emit()

    def _size(self, path: str) -> tuple[int, int]:
        known = self._looked.get(path)
        return ASSUMED_SIZE if known is None or known.size is None else known.size

    def _look(self, path: str) -> None:
        self._background.run(
            lambda: _looked_at(path),
            lambda look: self._on_looked(path, look),
            lambda error: self._on_look_failed(path, error),
        )

    def _on_looked(self, path: str, look: _Look) -> None:
        thumbnail = image_of_preview(look.small)
        self._note(Reference(path=path, size=look.size, thumbnail=thumbnail))

    def _on_look_failed(self, path: str, error: Exception) -> None:
        self._note(Reference(path=path, problem=describe(error).message, thumbnail=QImage()))

    def _note(self, found: Reference) -> None:
        before = self._looked.get(found.path)
        if before is None:
            return  # It left the list meanwhile.
        self._looked[found.path] = found
        for row, reference in enumerate(self._rows):
            if reference.path == found.path:
                self._rows[row] = replace(found)
                index = self.index(row)
                self.dataChanged.emit(index, index)
        if before.size != found.size or before.problem != found.problem:
            self.sizes_changed.emit()


def _ignore(_error: Exception) -> None:
    """What cannot be swept now is swept at another start."""


def _looked_at(path: str) -> _Look:
    """Size and thumbnail of a file; done in a thread.

    Raises:
        RequestError: It cannot be a reference image.
    """
    # Lazy: Pillow is loaded with the first reference image, not with the window.
    from app.core.reference_image import reference_size_of, reference_thumbnail

    size = reference_size_of(path)
    return _Look(size=size, small=reference_thumbnail(path, THUMBNAIL_EDGE_PX))
