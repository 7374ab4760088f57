"""All presets: those that come with the app, and the user's as TOML files in one folder.

No file that this version cannot read whole is ever overwritten: it may be from a newer version, or
somebody is writing it by hand.
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from app.core.atomic import write_atomic, write_new
from app.core.errors import RequestError
from app.core.naming import numbered, safe_stem
from app.core.paths import resource
from app.core.preset import PRESET_SCHEMA_VERSION, Preset
from app.core.preset_checks import (
    bytes_to_import,
    checked_name,
    export_target,
    file_exists,
    shown,
    writing,
)
from app.core.preset_choice import best_bound, best_class, suits_model
from app.core.preset_defaults import PresetDefaults
from app.core.preset_file import preset_text, read_preset, renamed_text
from app.core.preset_folder import SUFFIX, PresetEntry, read_folder
from app.core.trash import move_to_trash

log = logging.getLogger(__name__)

DEFAULTS_FILE = "defaults.json"


class PresetStore:
    """Presets in folders; every call looks at the files as they are now."""

    def __init__(
        self,
        folder: Path,
        *,
        builtin_folder: Path | None = None,
        trash: Callable[[Path], None] = move_to_trash,
    ) -> None:
        """Use a folder, made with the first preset.

        Args:
            folder: Of the user's presets.
            builtin_folder: Of those that come with the app; by default in its resources.
            trash: Takes a file away, or raises OSError.
        """
        self._folder = folder
        self._builtin_folder = resource("presets") if builtin_folder is None else builtin_folder
        self._defaults = PresetDefaults(folder / DEFAULTS_FILE)
        self._trash = trash

    def entries(self) -> tuple[PresetEntry, ...]:
        """All presets: the built-in ones from the smallest GPU up, then the user's by name."""
        builtin = read_folder(self._builtin_folder, builtin=True)
        builtin.sort(key=lambda entry: (entry.preset.vram_bytes or 0, entry.name))
        taken = {entry.name.casefold() for entry in builtin}
        own: list[PresetEntry] = []
        for entry in read_folder(self._folder, builtin=False):
            # Two files may hold one name, as a copy made by hand does.
            name = next(name for name in numbered(entry.name) if name.casefold() not in taken)
            taken.add(name.casefold())
            own.append(replace(entry, preset=replace(entry.preset, name=name)))
        own.sort(key=lambda entry: entry.name.casefold())
        return (*builtin, *own)

    def find(self, name: str) -> PresetEntry:
        """The preset with this name, in small or capital letters.

        Raises:
            RequestError: There is none.
        """
        entries = self.entries()
        for entry in entries:
            if entry.name.casefold() == name.strip().casefold():
                return entry
        known = ", ".join(f"“{entry.name}”" for entry in entries) or "none"
        raise RequestError(
            f"There is no preset “{shown(name)}”; there are: {known}.", code="preset.unknown"
        )

    def save(self, preset: Preset, *, replacing: bool = False) -> PresetEntry:
        """Write a preset of the user's.

        Args:
            preset: To be written; its schema version becomes this app's.
            replacing: Whether it takes the place of a preset of the same name. When that one's
                file holds anything that is not understood here, it stays, and the new one gets a
                name with a number.

        Raises:
            RequestError: The name cannot be used, or is taken.
            OutputError: The file cannot be written.
        """
        name = checked_name(preset.name)
        preset = replace(preset, name=name, schema_version=PRESET_SCHEMA_VERSION)
        taken = self._names()
        found = taken.get(name.casefold())
        if found is None:
            return self._write_new(preset)
        if found.builtin:
            raise RequestError(
                f"“{found.name}” is a preset that comes with the app: choose another name.",
                code="preset.builtin",
            )
        if not replacing:
            raise RequestError(
                f"There is a preset “{found.name}” already: choose another name, or replace it.",
                code="preset.exists",
            )
        if not found.whole:
            free = next(one for one in numbered(name) if one.casefold() not in taken)
            return self._write_new(replace(preset, name=free))
        with writing(found.name):
            write_atomic(found.path, preset_text(preset).encode())
        return PresetEntry(preset=preset, builtin=False, path=found.path)

    def rename(self, name: str, new: str) -> PresetEntry:
        """Give a preset of the user's another name; its file is renamed with it.

        Raises:
            RequestError: There is no such preset, it is built-in or broken, or the name is taken.
            OutputError: The file cannot be written.
        """
        entry = self._own(name, "renamed")
        new = checked_name(new)
        found = self._names().get(new.casefold())
        if found is not None and found.name != entry.name:
            raise RequestError(f"There is a preset “{found.name}” already.", code="preset.exists")
        if new == entry.name:
            return entry
        with writing(new):
            try:
                text = renamed_text(entry.path.read_text(encoding="utf-8"), new)
            except ValueError as error:
                raise RequestError(
                    f"The file of “{entry.name}” is broken ({error}): mend it before renaming it.",
                    code="preset.broken",
                ) from error
            path = write_new(self._paths(new), text.encode())
            entry.path.unlink()
            self._defaults.rename(entry.name, new)
        return replace(entry, preset=replace(entry.preset, name=new), path=path)

    def delete(self, name: str) -> None:
        """Move a preset of the user's to the trash.

        Raises:
            RequestError: There is no such preset, or it is built-in.
            OutputError: It cannot be moved.
        """
        entry = self._own(name, "deleted")
        with writing(entry.name):
            self._trash(entry.path)
            self._defaults.rename(entry.name, None)

    def set_default(self, gpu_name: str | None, name: str) -> PresetEntry:
        """Make a preset what is used on a GPU, for its model if it has one, else for all.

        Args:
            gpu_name: As the driver calls it; None is the CPU.
            name: Of the preset.

        Raises:
            RequestError: There is no such preset.
            OutputError: It cannot be written down.
        """
        entry = self.find(name)
        with writing(entry.name):
            self._defaults.set(gpu_name, entry.preset.model, entry.name)
        return entry

    def clear_default(self, gpu_name: str | None, model: str | None = None) -> None:
        """Take back what `set_default` did: the preset is chosen by GPU and model again.

        Raises:
            OutputError: It cannot be written down.
        """
        with writing("default"):
            self._defaults.set(gpu_name, model, None)

    def is_default(self, entry: PresetEntry, gpu_name: str | None) -> bool:
        """Whether a preset is the default of a GPU for its model; None is the CPU."""
        return entry.name in self._defaults.find(gpu_name, entry.preset.model)

    def best_for(
        self, gpu_name: str | None, vram_bytes: int | None, model: str | None
    ) -> PresetEntry | None:
        """The preset to use: the default, else one bound to this GPU, else the class's.

        Args:
            gpu_name: As the driver calls it; None is the CPU, for which only a default is used.
            vram_bytes: Memory of the GPU.
            model: Known model name or folder.
        """
        entries = {entry.name: entry for entry in self.entries()}
        for name in self._defaults.find(gpu_name, model):
            if name in entries and suits_model(entries[name].preset, model):
                return entries[name]
        if gpu_name is None:
            return None
        own = [entry.preset for entry in entries.values() if not entry.builtin]
        builtin = [entry.preset for entry in entries.values() if entry.builtin]
        found = best_bound(
            own, gpu_name=gpu_name, vram_bytes=vram_bytes, model=model
        ) or best_class(builtin, vram_bytes=vram_bytes, model=model)
        return None if found is None else entries[found.name]

    def import_file(self, path: Path) -> PresetEntry:
        """Take a preset from a file; the file stays, and a taken name gets a number.

        Raises:
            RequestError: It is no preset.
            OutputError: It cannot be written here.
        """
        data = bytes_to_import(path)
        name = read_preset(data, name=safe_stem(path.stem)).preset.name
        free = next(one for one in numbered(name) if one.casefold() not in self._names())
        if free != name:
            try:
                data = renamed_text(data.decode("utf-8-sig"), free).encode()
            except ValueError as error:
                # A broken one keeps its bytes; the list tells the two apart.
                log.info("imported as it is: %s", error)
        with writing(free):
            written = write_new(self._paths(free), data)
        read = read_preset(data, name=free)
        preset = replace(read.preset, name=free)
        return PresetEntry(preset=preset, builtin=False, path=written, problems=read.problems)

    def export(self, name: str, path: Path) -> Path:
        """Copy a preset's file as it is; returns where it is now.

        Args:
            name: Of the preset.
            path: Of the new file, which must not exist; or a folder, which must.

        Raises:
            RequestError: There is no such preset, or the place cannot be used.
            OutputError: The file cannot be written.
        """
        entry = self.find(name)
        stem = safe_stem(entry.name)
        if os.path.isdir(path):
            targets = (path / f"{one}{SUFFIX}" for one in numbered(stem))
        else:
            targets = iter((export_target(path),))
        with writing(entry.name):
            try:
                return write_new(targets, entry.path.read_bytes())
            except StopIteration as error:
                raise file_exists(path) from error

    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing in the user's files that cannot be used."""
        found = [problem for entry in self.entries() for problem in entry.problems]
        self._defaults.find(None, None)
        return (*found, self._defaults.problem) if self._defaults.problem else tuple(found)

    def _names(self) -> dict[str, PresetEntry]:
        return {entry.name.casefold(): entry for entry in self.entries()}

    def _own(self, name: str, what: str) -> PresetEntry:
        entry = self.find(name)
        if entry.builtin:
            raise RequestError(
                f"“{entry.name}” comes with the app and cannot be {what}: save a preset of your "
                "own and make it the default.",
                code="preset.builtin",
            )
        return entry

    def _paths(self, name: str) -> Iterator[Path]:
        return (self._folder / f"{stem}{SUFFIX}" for stem in numbered(safe_stem(name)))

    def _write_new(self, preset: Preset) -> PresetEntry:
        with writing(preset.name):
            path = write_new(self._paths(preset.name), preset_text(preset).encode())
        return PresetEntry(preset=preset, builtin=False, path=path)
