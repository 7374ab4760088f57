"""Presets of one folder, one TOML file each, read as they are now."""

import logging
from dataclasses import dataclass
from pathlib import Path

from app.core.preset import PRESET_SCHEMA_VERSION, Preset
from app.core.preset_file import MAX_FILE_BYTES, read_preset

log = logging.getLogger(__name__)

SUFFIX = ".toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetEntry:
    """A preset and where it is.

    Attributes:
        preset: With a name that no other entry has.
        builtin: Whether it came with the app; such are never changed.
        path: Of its file.
        problems: One sentence for each thing in the file that could not be used.
    """

    preset: Preset
    builtin: bool
    path: Path
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the preset."""
        return self.preset.name

    @property
    def whole(self) -> bool:
        """Whether all of its file was understood, so that writing it anew loses nothing."""
        return not self.problems and self.preset.schema_version <= PRESET_SCHEMA_VERSION


def read_folder(folder: Path, *, builtin: bool) -> list[PresetEntry]:
    """A folder's presets by file name; none where there is no folder."""
    try:
        paths = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    except OSError as error:
        log.info("presets cannot be listed: %s", error)
        return []
    return [_read_entry(path, builtin=builtin) for path in paths]


def _read_entry(path: Path, *, builtin: bool) -> PresetEntry:
    name = path.stem
    try:
        with path.open("rb") as file:
            # One byte more shows that it is too large without reading all of it.
            read = read_preset(file.read(MAX_FILE_BYTES + 1), name=name)
    except OSError as error:
        problem = f"The preset “{name}” cannot be opened ({error.strerror or error})."
        return PresetEntry(
            preset=Preset(name=name), builtin=builtin, path=path, problems=(problem,)
        )
    return PresetEntry(preset=read.preset, builtin=builtin, path=path, problems=read.problems)
