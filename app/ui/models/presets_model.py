"""The presets as the window sees them: which there are, which is in use, what is done with them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QObject, Signal, Slot

from app.core.device import DeviceSnapshot, Sample
from app.core.errors import describe
from app.core.preset import Preset
from app.core.preset_folder import PresetEntry
from app.core.preset_store import PresetStore
from app.ui.models.background import Background
from app.ui.models.policy_file import PolicyState
from app.ui.models.policy_model import PolicyModel
from app.ui.models.request_model import RequestModel

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRow:
    """One preset on the list; `is_default` is about the GPU in use."""

    entry: PresetEntry
    is_default: bool

    @property
    def name(self) -> str:
        """For people."""
        return self.entry.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What was found on the disk."""

    rows: tuple[PresetRow, ...]
    problems: tuple[str, ...]


class PresetsModel(QObject):
    """Presets of the store, read and written beside the window.

    The right one is applied by itself when a GPU is met for the first time, and when the model
    changes while nothing was changed since a preset was applied.

    Signals:
        changed(): There are other presets, or another one is in use.
        told(str): What was done, in a sentence.
        failed(str): What could not be done, in a sentence.
    """

    changed = Signal()
    told = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        store: PresetStore,
        policy: PolicyModel,
        form: RequestModel,
        background: Background,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._store, self._policy, self._form = store, policy, form
        self._background = background
        self._rows: tuple[PresetRow, ...] = ()
        self._problems: tuple[str, ...] = ()
        self._gpu: DeviceSnapshot | None = None
        self._met = False
        self._model = form.form.model
        self._asked = 0
        policy.changed.connect(self._on_policy_changed)
        form.changed.connect(self._on_form_changed)

    # What is.

    @property
    def rows(self) -> tuple[PresetRow, ...]:
        """All presets: the built-in ones, then the user's."""
        return self._rows

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing in the files that cannot be used."""
        return self._problems

    @property
    def current(self) -> PresetRow | None:
        """The preset that was applied last, even when something was changed since."""
        name = self._policy.state.preset
        return next((row for row in self._rows if row.name == name), None) if name else None

    @property
    def modified(self) -> bool:
        """Whether the choices are others than those of the preset that was applied."""
        row = self.current
        return row is not None and self._policy.state != _state(row.entry.preset)

    @property
    def gpu_name(self) -> str | None:
        """The GPU presets are saved for; None without one."""
        return None if self._gpu is None else self._gpu.name

    # What the user wants.

    def refresh(self) -> None:
        """Read the files again."""
        self._run(self._read, self._on_read)

    def choose(self, name: str) -> None:
        """Take everything a preset says."""
        row = next((one for one in self._rows if one.name == name), None)
        if row is not None:
            self._apply(row.entry.preset, by_hand=True)

    def save_as(self, name: str, *, model: str | None = None, replacing: bool = False) -> None:
        """Save the choices as they are, for this GPU.

        Args:
            name: Of the preset.
            model: It is meant for; None is every model.
            replacing: Whether a preset of that name is replaced.
        """
        state, gpu = self._policy.state, self._gpu
        preset = Preset(
            name=name,
            gpu_name=None if gpu is None else gpu.name,
            vram_bytes=None if gpu is None else gpu.total_bytes,
            model=model,
            policy=state.policy,
            limits=state.limits,
        )
        before = self.current
        if before is not None:
            kept = before.entry.preset
            preset = replace(preset, steps=kept.steps, guidance=kept.guidance)
        self._run(lambda: self._store.save(preset, replacing=replacing), self._on_saved)

    def save_changes(self) -> None:
        """Save the choices into the preset they came from."""
        row = self.current
        if row is not None and not row.entry.builtin:
            self.save_as(row.name, model=row.entry.preset.model, replacing=True)

    def rename(self, new: str) -> None:
        """Give the preset in use another name."""
        row = self.current
        if row is not None:
            self._run(lambda: self._store.rename(row.name, new), self._on_renamed)

    def delete(self) -> None:
        """Move the preset in use to the trash; the choices stay as they are."""
        row = self.current
        if row is not None:
            self._run(lambda: self._store.delete(row.name), lambda _: self._on_deleted(row.name))

    def set_default(self, *, is_default: bool) -> None:
        """Say whether the preset in use is what this GPU begins with."""
        row, gpu = self.current, self.gpu_name
        if row is None:
            return
        if is_default:
            self._run(lambda: self._store.set_default(gpu, row.name), lambda _: self.refresh())
        else:
            model = row.entry.preset.model
            self._run(lambda: self._store.clear_default(gpu, model), lambda _: self.refresh())

    def import_file(self, path: Path) -> None:
        """Take a preset from a file, and use it."""
        self._run(lambda: self._store.import_file(path), self._on_imported)

    def export(self, path: Path) -> None:
        """Copy the file of the preset in use."""
        row = self.current
        if row is not None:
            self._run(lambda: self._store.export(row.name, path), self._on_exported)

    # What happens.

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample of the monitor thread: it tells which GPU there is."""
        gpu = sample.device
        known = self._gpu
        same = (gpu is None) == (known is None) and (
            gpu is None
            or known is None
            or (gpu.name, gpu.total_bytes) == (known.name, known.total_bytes)
        )
        if self._met and same:
            return
        self._met, self._gpu = True, gpu
        self._policy.set_device("" if gpu is None else gpu.name)
        if not self._policy.remembers("" if gpu is None else gpu.name):
            self._choose_best()
        self.refresh()

    @Slot()
    def _on_form_changed(self) -> None:
        model = self._form.form.model
        if model == self._model:
            return
        self._model = model
        # Whatever was chosen by hand since goes before what a preset says.
        if self._met and self.current is not None and not self.modified:
            self._choose_best()

    @Slot()
    def _on_policy_changed(self) -> None:
        self.changed.emit()

    # Inside.

    def _choose_best(self) -> None:
        gpu, model = self._gpu, self._model
        self._asked += 1
        number = self._asked
        vram_bytes = None if gpu is None else gpu.total_bytes
        self._run(
            lambda: self._store.best_for(None if gpu is None else gpu.name, vram_bytes, model),
            lambda found: self._on_best(number, found),
        )

    def _on_best(self, number: int, found: PresetEntry | None) -> None:
        # Of several questions only the last one's answer is about what is there now.
        if found is not None and number == self._asked:
            self._apply(found.preset, by_hand=False)

    def _apply(self, preset: Preset, *, by_hand: bool) -> None:
        self._asked += 1
        self._policy.set_state(_state(preset))
        if by_hand:
            # Not by itself: what was typed for this model would be lost at each start.
            if preset.steps is not None:
                self._form.set_steps(preset.steps)
            if preset.guidance is not None:
                self._form.set_guidance(preset.guidance)

    def _read(self) -> _Read:
        gpu = self.gpu_name
        entries = self._store.entries()
        return _Read(
            rows=tuple(
                PresetRow(entry=entry, is_default=self._store.is_default(entry, gpu))
                for entry in entries
            ),
            problems=self._store.problems(),
        )

    def _on_read(self, read: _Read) -> None:
        self._rows, self._problems = read.rows, read.problems
        self.changed.emit()

    def _on_saved(self, entry: PresetEntry) -> None:
        self._policy.set_preset_name(entry.name)
        self.told.emit(self.tr("Saved as preset “{name}”.").format(name=entry.name))
        self.refresh()

    def _on_renamed(self, entry: PresetEntry) -> None:
        self._policy.set_preset_name(entry.name)
        self.refresh()

    def _on_deleted(self, name: str) -> None:
        self._policy.set_preset_name("")
        self.told.emit(self.tr("The preset “{name}” is in the trash.").format(name=name))
        self.refresh()

    def _on_imported(self, entry: PresetEntry) -> None:
        self._apply(entry.preset, by_hand=True)
        said = self.tr("The preset “{name}” is imported and in use.").format(name=entry.name)
        self.told.emit(" ".join((said, *entry.problems)))
        self.refresh()

    def _on_exported(self, path: Path) -> None:
        self.told.emit(self.tr("The preset is saved as {name}.").format(name=path.name))

    def _run(self, work: Callable[[], Result], done: Callable[[Result], None]) -> None:
        self._background.run(work, done, self._on_failed, keep=True)

    def _on_failed(self, error: Exception) -> None:
        log.info("preset: %s", error)
        self.failed.emit(describe(error).message)


def _state(preset: Preset) -> PolicyState:
    return PolicyState(policy=preset.policy, limits=preset.limits, preset=preset.name)
