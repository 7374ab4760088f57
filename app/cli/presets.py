"""`presets`: list, show, save, apply, rename, delete, import and export them."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.cli.gpu_here import GpuHere, gpu_here
from app.cli.presets_arguments import PresetsArguments
from app.cli.presets_save import preset_to_save
from app.cli.presets_told import entry_as_json, entry_as_line, written_as_json
from app.cli.report import write_json
from app.cli.stderr import write_err
from app.cli.stdout import write_out
from app.core.errors import RequestError
from app.core.paths import app_paths
from app.core.preset_file import preset_text
from app.core.preset_folder import PresetEntry
from app.core.preset_store import PresetStore
from app.core.settings import SettingsStore
from app.core.trash import move_to_trash

EXIT_OK = 0


def run_presets(arguments: PresetsArguments) -> int:
    """Do it and tell; returns the exit code.

    Raises:
        RequestError: The arguments cannot be used.
        OutputError: A file cannot be written.
        SetupError: This machine has no such device.
    """
    settings = SettingsStore(app_paths().settings_file).load()
    store = PresetStore(app_paths().presets_folder, trash=move_to_trash)
    verb = _Verb(
        store=store, arguments=arguments, gpu=gpu_here(arguments.device or settings.device)
    )
    verb.run()
    for problem in dict.fromkeys(verb.problems):
        _warn(problem)
    return EXIT_OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verb:
    """One action on the presets of this machine.

    Attributes:
        store: Of the presets.
        arguments: What was typed.
        gpu: None where runs go to the CPU.
        problems: Sentences about the presets it had to do with; the list has to do with all.
    """

    store: PresetStore
    arguments: PresetsArguments
    gpu: GpuHere | None
    problems: list[str] = field(default_factory=list[str])

    @property
    def gpu_name(self) -> str | None:
        return None if self.gpu is None else self.gpu.snapshot.name

    @property
    def device(self) -> str:
        return self.gpu_name or "the processor"

    @property
    def name(self) -> str:
        return self.arguments.name or ""

    @property
    def target(self) -> Path:
        typed = self.arguments.target or ""
        if not typed.strip():
            raise RequestError("The file has no name: give one.", code="preset.file")
        # Not the path's own method, which raises for an unknown user.
        return Path(os.path.expanduser(typed)).absolute()

    def run(self) -> None:
        actions = {
            "list": self.list,
            "show": self.show,
            "save": self.save,
            "apply": self.apply,
            "rename": self.rename,
            "delete": self.delete,
            "import": self.import_file,
            "export": self.export,
        }
        actions[self.arguments.action]()

    def list(self) -> None:
        used = self._used()
        self.problems.extend(self.store.problems())
        for entry in self.store.entries():
            in_use = used is not None and entry.name == used.name
            if self.arguments.as_json:
                write_json({**entry_as_json(entry), "in_use": in_use})
            else:
                write_out(entry_as_line(entry, in_use=in_use))

    def show(self) -> None:
        entry = self.store.find(self.name)
        self.problems.extend(entry.problems)
        if self.arguments.as_json:
            used = self._used()
            in_use = used is not None and entry.name == used.name
            write_json({**entry_as_json(entry), "in_use": in_use})
        else:
            write_out(preset_text(entry.preset))

    def save(self) -> None:
        options = self.arguments.save
        if options is None:
            return
        base = self._used() if options.base is None else self.store.find(options.base)
        self.problems.extend(() if base is None else base.problems)
        preset = preset_to_save(self.name, options, None if base is None else base.preset, self.gpu)
        saved = self.store.save(preset, replacing=options.replacing)
        self._tell_written("saved", saved, f"“{saved.name}” is saved as {saved.path}.")
        if saved.name != preset.name:
            self.problems.extend(self.store.find(preset.name).problems)
            _warn(
                f"It is not named “{preset.name}”, because the file of that preset holds what this "
                "version does not understand, and is kept."
            )

    def apply(self) -> None:
        if self.arguments.name is None:
            self.store.clear_default(self.gpu_name)
            used = self._used()
            self.problems.extend(() if used is None else used.problems)
            if self.arguments.as_json:
                name = None if used is None else used.name
                write_json({"event": "preset", "action": "automatic", "name": name})
            else:
                now = "none" if used is None else f"“{used.name}”"
                write_out(f"The preset for {self.device} is chosen automatically: now {now}.\n")
            return
        entry = self.store.set_default(self.gpu_name, self.name)
        model = entry.preset.model
        for_model = "" if model is None else f" with {model}"
        self._tell_written(
            "applied", entry, f"“{entry.name}” is used on {self.device}{for_model} from now on."
        )

    def rename(self) -> None:
        entry = self.store.rename(self.name, self.arguments.target or "")
        self._tell_written("renamed", entry, f"The preset is now called “{entry.name}”.")

    def delete(self) -> None:
        entry = self.store.find(self.name)
        self.store.delete(entry.name)
        self._tell_written("deleted", entry, f"“{entry.name}” is in the trash.")

    def import_file(self) -> None:
        entry = self.store.import_file(self.target)
        self._tell_written("imported", entry, f"“{entry.name}” is imported.")

    def export(self) -> None:
        entry = self.store.find(self.name)
        path = self.store.export(entry.name, self.target)
        self._tell_written(
            "exported", replace(entry, path=path), f"“{entry.name}” is written to {path}."
        )

    def _used(self) -> PresetEntry | None:
        """The preset that is used here, for models that have none of their own."""
        vram_bytes = None if self.gpu is None else self.gpu.snapshot.total_bytes
        return self.store.best_for(self.gpu_name, vram_bytes, None)

    def _tell_written(self, action: str, entry: PresetEntry, sentence: str) -> None:
        self.problems.extend(entry.problems)
        if self.arguments.as_json:
            write_json(written_as_json(action, entry))
        else:
            write_out(f"{sentence}\n")


def _warn(sentence: str) -> None:
    write_err(f"headroom: {sentence}\n")
