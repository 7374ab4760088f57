"""What the user set once and for all: one frozen dataclass in one JSON file.

A value that cannot be used falls back to its default with a sentence; keys this version does not
know are kept, so that a newer version's settings survive an older one.
"""

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from app.core.atomic import write_atomic

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

Theme = Literal["system", "light", "dark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings with their defaults.

    Attributes:
        pictures_folder: Absolute path of the results' folder; "" is the user's Pictures/Headroom.
        name_template: Of result files, without suffix; fields as in `app.core.naming`.
        metadata: Whether PNG files carry their settings.
        theme: Colours of the window.
        device: "auto", "cpu", "cuda:0", ...; needs a restart of the engine.
        preview: Whether a preview is shown at each step.
        model_folders: Model folders the user added, absolute paths.
        notify_when_done: Whether a finished job asks for attention when the window is not in front.
        keep_embeddings: Whether what the text encoder made of a prompt is kept on the disk, so that
            the prompt needs no encoder when it comes again.
    """

    pictures_folder: str = ""
    name_template: str = "{date}-{time}-{seed}"
    metadata: bool = True
    theme: Theme = "system"
    device: str = "auto"
    preview: bool = True
    model_folders: tuple[str, ...] = ()
    notify_when_done: bool = True
    keep_embeddings: bool = True


class SettingsStore:
    """Settings in a file.

    Attributes:
        problems: One sentence for each thing in the file that could not be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unknown: dict[str, Any] = {}
        self.problems: tuple[str, ...] = ()

    def load(self) -> Settings:
        """Read the file; whatever cannot be used has its default and stands in `problems`."""
        self._unknown = {}
        self.problems = ()
        try:
            raw = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return Settings()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._unreadable(error)
        return self._from_values(raw)

    def save(self, settings: Settings) -> None:
        """Write the file, keeping keys of newer versions.

        Raises:
            OSError: The file cannot be written; it is as before.
        """
        values = {**self._unknown, **msgspec.to_builtins(settings)}
        found = self._unknown.get("schema_version")
        newer = found if isinstance(found, int) else 0
        values["schema_version"] = max(SCHEMA_VERSION, newer)
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(values), indent=2))

    def _unreadable(self, error: Exception) -> Settings:
        # The file is set aside, not overwritten: someone may have edited it by hand.
        aside = self._path.with_suffix(".broken.json")
        try:
            self._path.replace(aside)
            kept = f"; it is kept as {aside.name}"
        except OSError:
            kept = ""
        log.warning("settings cannot be read: %s", error)
        self.problems = (f"The settings file cannot be read{kept}, and the defaults are used.",)
        return Settings()

    def _from_values(self, raw: dict[str, Any]) -> Settings:
        settings = Settings()
        known = {field.name: field.type for field in fields(Settings)}
        problems: list[str] = []
        for name, value in raw.items():
            if name not in known:
                self._unknown[name] = value
                continue
            try:
                # One field at a time, so that a bad value costs only itself.
                one = msgspec.convert({name: value}, type=Settings)
            except msgspec.ValidationError as error:
                log.warning("setting %s: %s", name, error)
                problems.append(f"The setting “{name}” cannot be used and has its default.")
                continue
            settings = replace(settings, **{name: getattr(one, name)})
        self.problems = tuple(problems)
        return settings
