"""The settings as the window sees them: one writer, everyone else is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.core.jobs import OutputTarget
from app.core.settings import Settings, SettingsStore
from app.ui.models.background import Background
from app.ui.models.saved_file import SavedFile


class SettingsModel(QObject):
    """Settings in memory, written to their file a moment after each change.

    Signals:
        changed(Settings): After any change.
        failed(str): A sentence; the file could not be written.
    """

    changed = Signal(object)
    failed = Signal(str)

    def __init__(
        self,
        store: SettingsStore,
        pictures_folder: Path,
        background: Background,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.default_pictures_folder = pictures_folder
        self._store = store
        self._settings = store.load()
        self.problems = store.problems
        self._file = SavedFile(
            background,
            self._writer,
            self,
            sentence=self.tr("Your settings cannot be saved ({reason}); check the disk."),
        )
        self._file.failed.connect(self.failed)

    @property
    def settings(self) -> Settings:
        """The settings now."""
        return self._settings

    def set_settings(self, settings: Settings) -> None:
        """Replace all settings."""
        if settings == self._settings:
            return
        self._settings = settings
        self._file.touch()
        self.changed.emit(settings)

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Settings
        """Change some settings by name."""
        self.set_settings(replace(self._settings, **changes))

    def pictures_folder(self) -> Path:
        """Where results go."""
        chosen = self._settings.pictures_folder
        return Path(chosen) if chosen else self.default_pictures_folder

    def output(self) -> OutputTarget:
        """Where the images of a job that is made now go."""
        return OutputTarget(
            folder=str(self.pictures_folder()),
            name_template=self._settings.name_template,
            metadata=self._settings.metadata,
        )

    def flush(self) -> None:
        """Write what is not yet written; at the end of the app."""
        self._file.flush()

    def _writer(self) -> Callable[[], None]:
        settings = self._settings
        return lambda: self._store.save(settings)
