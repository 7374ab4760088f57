"""Which preset is the default of which GPU: names in one small JSON file."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CPU_KEY = "cpu"
ANY_MODEL = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DefaultsFile:
    """What is in the file: preset names by GPU name and model; see CPU_KEY and ANY_MODEL."""

    schema_version: int
    defaults: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])


class PresetDefaults:
    """The default presets in a file.

    Attributes:
        problem: One sentence when the file could not be used, else "".
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""

    def find(self, gpu_name: str | None, model: str | None) -> tuple[str, ...]:
        """Names of default presets, the one for this model first; None is the CPU, any model."""
        by_model = self._load().get(gpu_name or CPU_KEY, {})
        names = (by_model.get(model or ANY_MODEL), by_model.get(ANY_MODEL))
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def set(self, gpu_name: str | None, model: str | None, name: str | None) -> None:
        """Make a preset the default of a GPU, for one model or for all; None takes it back.

        Raises:
            OSError: The file cannot be written.
        """
        defaults = self._load()
        by_model = defaults.setdefault(gpu_name or CPU_KEY, {})
        by_model.pop(model or ANY_MODEL, None)
        if name is not None:
            by_model[model or ANY_MODEL] = name
        self._save(defaults)

    def rename(self, name: str, new: str | None) -> None:
        """Follow a preset to its new name; None forgets it.

        Raises:
            OSError: The file cannot be written.
        """
        defaults = self._load()
        changed: dict[str, dict[str, str]] = {}
        for gpu, by_model in defaults.items():
            changed[gpu] = {}
            for model, found in by_model.items():
                kept = new if found == name else found
                if kept is not None:
                    changed[gpu][model] = kept
        if changed != defaults:
            self._save(changed)

    def _load(self) -> dict[str, dict[str, str]]:
        self.problem = ""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_DefaultsFile)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.info("default presets cannot be read: %s", error)
            self.problem = "The list of default presets cannot be read; none is the default."
            return {}
        return found.defaults

    def _save(self, defaults: dict[str, dict[str, str]]) -> None:
        if self.problem:
            # Set aside, not overwritten: a newer version or somebody's hand may have written it.
            self._path.replace(self._path.with_suffix(".broken.json"))
        file = _DefaultsFile(
            schema_version=SCHEMA_VERSION,
            defaults={gpu: by_model for gpu, by_model in defaults.items() if by_model},
        )
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(file), indent=2))
