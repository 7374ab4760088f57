"""The models one can choose from: found beside the window, shown as rows."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PySide6.QtCore import (
    QAbstractListModel,
    QIdentityProxyModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
)

from app.core.errors import describe
from app.core.settings import Settings
from app.engine.catalog import DEMO_NAME, CatalogEntry, KnownModel
from app.engine.model_folder import ModelInfo, inspect_model_folder
from app.ui.models.background import Background
from app.ui.models.form import ModelDefaults
from app.ui.models.settings_model import SettingsModel

log = logging.getLogger(__name__)

GuidanceUse = Literal["none", "embedded", "cfg"]
CHOICE_ROLE = Qt.ItemDataRole.UserRole + 1
_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


class ModelCatalog(Protocol):
    """What is needed of `app.engine.catalog.Catalog`."""

    def entries(self) -> tuple[CatalogEntry, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """One row.

    Attributes:
        model: What a request calls it: a known name, or a folder's absolute path.
        label: For people.
        folder: Where it is; None when it is not installed.
        usable: Whether it can be run.
        guidance: What the guidance scale does.
        defaults: Values it was made for.
        problem: Why it cannot be run; "" when it can.
        source: Web address where it can be had; "" where there is none.
        licence: Of its weights, or "" where it is not known.
        is_demo: Whether it is the one that is built in.
        info: What is in its folder; None when it is not installed or cannot be used.
    """

    model: str
    label: str
    folder: Path | None
    usable: bool
    guidance: GuidanceUse
    defaults: ModelDefaults
    problem: str
    source: str
    licence: str
    is_demo: bool
    info: ModelInfo | None = None


class CatalogModel(QAbstractListModel):
    """Rows of ModelChoice: the demo, the user's folders, known models that are not installed.

    Signals:
        refreshed(): The rows are as they are on disk now.
        folder_added(str): The request's name of a folder that was just added.
        folder_refused(str): A sentence; the folder cannot be used and was not added.
    """

    refreshed = Signal()
    folder_added = Signal(str)
    folder_refused = Signal(str)

    def __init__(
        self,
        make_catalog: Callable[[Iterable[str]], ModelCatalog],
        settings: SettingsModel,
        background: Background,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._make_catalog = make_catalog
        self._settings = settings
        self._background = background
        self._choices: tuple[ModelChoice, ...] = ()
        self._folders: tuple[str, ...] | None = None
        self._announce: Path | None = None
        self.ready = False
        settings.changed.connect(self._on_settings_changed)

    # Rows.

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._choices)

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: ANN401
        if not index.isValid() or index.row() >= len(self._choices):
            return None
        choice = self._choices[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(choice)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.hint(choice)
        if role == CHOICE_ROLE:
            return choice
        return None

    def flags(self, index: _Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        if index.isValid() and not self._choices[index.row()].usable:
            return flags & ~Qt.ItemFlag.ItemIsEnabled & ~Qt.ItemFlag.ItemIsSelectable
        return flags

    # What is.

    def choice(self, model: str) -> ModelChoice | None:
        """The row a request's model stands for; None when there is none."""
        return next((one for one in self._choices if one.model == model), None)

    def choice_of_picture(self, model: str) -> ModelChoice | None:
        """The row a picture's model stands for: pictures name a folder without its path."""
        same_name = (
            one for one in self._choices if one.folder is not None and one.folder.name == model
        )
        return self.choice(model) or next(same_name, None)

    def row(self, number: int) -> ModelChoice:
        """The row of this number."""
        return self._choices[number]

    def row_of(self, model: str) -> int:
        """Number of that row; -1 when there is none."""
        return next((row for row, one in enumerate(self._choices) if one.model == model), -1)

    def defaults(self, model: str) -> ModelDefaults:
        """Values a model was made for; the demo's until the models are known."""
        choice = self.choice(model)
        return ModelDefaults() if choice is None else choice.defaults

    def hint(self, choice: ModelChoice) -> str:
        """What there is to know about a row, in one or two sentences."""
        if choice.is_demo and choice.usable:
            return self.tr(
                "A tiny model that is built in, to try everything out: it knows shapes, colours "
                "and places. The FLUX.2 models in the list draw everything: choose one to see "
                "where it can be had."
            )
        if choice.problem:
            return choice.problem
        if choice.folder is None:
            return self.tr(
                "Not installed: download its folder from {source}, then choose it with "
                "“Add model folder…”. Licence: {licence}."
            ).format(source=choice.source, licence=choice.licence)
        if choice.licence:
            return self.tr("{folder}\nLicence: {licence}").format(
                folder=choice.folder, licence=choice.licence
            )
        return str(choice.folder)

    # What the user wants.

    def refresh(self) -> None:
        """Look at the disk again, beside the window."""
        self._folders = self._settings.settings.model_folders
        catalog = self._make_catalog(self._folders)
        self._background.run(catalog.entries, self._on_entries, self._on_failed)

    def add_folder(self, folder: Path) -> None:
        """Add a folder to the user's own, if it holds a model."""
        self._background.run(
            lambda: inspect_model_folder(folder), self._on_inspected, self._on_refused
        )

    def remove_folder(self, folder: Path) -> None:
        """Take a folder off the list; nothing on disk is touched."""
        folders = self._settings.settings.model_folders
        self._settings.update(model_folders=tuple(one for one in folders if Path(one) != folder))

    # Inside.

    def _text(self, choice: ModelChoice) -> str:
        if choice.usable:
            return choice.label
        if choice.folder is None:
            return self.tr("{label} (not installed)").format(label=choice.label)
        return self.tr("{label} (cannot be used)").format(label=choice.label)

    def _on_inspected(self, info: ModelInfo) -> None:
        folders = self._settings.settings.model_folders
        self._announce = info.folder
        if str(info.folder) in folders:
            self.refresh()
        else:
            self._settings.update(model_folders=(*folders, str(info.folder)))

    def _on_refused(self, error: Exception) -> None:
        self.folder_refused.emit(describe(error).message)

    def _on_settings_changed(self, settings: Settings) -> None:
        if self._folders is not None and settings.model_folders != self._folders:
            self.refresh()

    def _on_entries(self, entries: tuple[CatalogEntry, ...]) -> None:
        self.beginResetModel()
        self._choices = _choices(entries)
        self.ready = True
        self.endResetModel()
        self.refreshed.emit()
        announce, self._announce = self._announce, None
        if announce is not None:
            for choice in self._choices:
                if choice.folder == announce:
                    self.folder_added.emit(choice.model)
                    break

    def _on_failed(self, error: Exception) -> None:
        log.error("the models cannot be listed: %s", error)
        self.folder_refused.emit(describe(error).message)


class EveryRowEnabled(QIdentityProxyModel):
    """The same rows, but those that cannot be run can be looked at too."""

    def flags(self, index: _Index) -> Qt.ItemFlag:
        del index
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable


def _choices(entries: Iterable[CatalogEntry]) -> tuple[ModelChoice, ...]:
    names: set[str] = set()
    made: list[ModelChoice] = []
    for entry in entries:
        choice = _choice(entry, names)
        names.add(choice.model)
        made.append(choice)
    return tuple(made)


def _choice(entry: CatalogEntry, taken: set[str]) -> ModelChoice:
    known, info = entry.known, entry.info
    # Of two folders with the same model the name means the first; the other goes by its path.
    by_name = known is not None and known.name not in taken
    model = known.name if known is not None and by_name else str(entry.folder)
    if info is not None:
        guidance, defaults = _guidance(info), _defaults(info)
    else:
        guidance: GuidanceUse = "cfg"
        defaults = _published_defaults(known)
    return ModelChoice(
        model=model,
        label=entry.label,
        folder=entry.folder,
        usable=info is not None,
        guidance=guidance,
        defaults=defaults,
        problem="" if entry.error is None else entry.error.message,
        source="" if known is None else known.source,
        licence="" if known is None else known.licence,
        is_demo=known is not None and known.name == DEMO_NAME,
        info=info,
    )


def _guidance(info: ModelInfo) -> GuidanceUse:
    return info.guidance.value


def _defaults(info: ModelInfo) -> ModelDefaults:
    return ModelDefaults(
        width_px=info.default_width_px,
        height_px=info.default_height_px,
        steps=info.default_steps,
        guidance=info.default_guidance,
    )


def _published_defaults(known: KnownModel | None) -> ModelDefaults:
    """What a model that is not here was made for, as its publisher says."""
    if known is None:
        return ModelDefaults()
    return ModelDefaults(
        width_px=known.default_size_px,
        height_px=known.default_size_px,
        steps=known.default_steps,
        guidance=known.default_guidance,
    )
