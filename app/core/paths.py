"""Where things are kept on this machine, and the project's own resources.

`HEADROOM_HOME` puts everything under one folder (portable use, tests); else the platform's
customary folders are used.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

APP_NAME = "headroom"
_SOURCE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPaths:
    """Folders of this user; made when first written to.

    Attributes:
        config: Settings and presets.
        data: Queue, window layout, session.
        cache: What can be made again.
        log: Log files.
        pictures: Default folder of results.
    """

    config: Path
    data: Path
    cache: Path
    log: Path
    pictures: Path

    @property
    def settings_file(self) -> Path:
        """Settings of `app.core.settings`."""
        return self.config / "settings.json"

    @property
    def queue_file(self) -> Path:
        """Jobs that wait, kept over restarts."""
        return self.data / "queue.json"

    @property
    def presets_folder(self) -> Path:
        """The user's presets, one TOML file each."""
        return self.config / "presets"

    @property
    def calibration_file(self) -> Path:
        """What was measured on each GPU of this machine."""
        return self.data / "calibration.json"

    @property
    def runs_folder(self) -> Path:
        """Kept latents of runs that are not finished."""
        return self.data / "runs"

    @property
    def forecast_cache(self) -> Path:
        """Coefficients of models that are not among the known ones."""
        return self.cache / "forecast"

    @property
    def attention_file(self) -> Path:
        """What was tried of attention on each GPU of this machine."""
        return self.data / "attention.json"

    @property
    def products_file(self) -> Path:
        """How weights in 8 bits are multiplied on each GPU of this machine."""
        return self.data / "products.json"

    @property
    def embeddings_folder(self) -> Path:
        """Embeddings of prompts; nothing in it tells the prompts."""
        return self.cache / "embeddings"

    @property
    def compiled_folder(self) -> Path:
        """Blocks that were compiled for this machine."""
        return self.cache / "compiled"

    @property
    def converted_folder(self) -> Path:
        """Weights that were quantized once, to be opened again."""
        return self.cache / "converted"

    @property
    def log_file(self) -> Path:
        """Newest log file; older ones have a number behind it."""
        return self.log / "headroom.log"


def app_paths() -> AppPaths:
    """The folders for this user, following `HEADROOM_HOME` when it is set."""
    home = os.environ.get("HEADROOM_HOME")
    if home:
        root = Path(home).expanduser().resolve()
        return AppPaths(
            config=root / "config",
            data=root / "data",
            cache=root / "cache",
            log=root / "log",
            pictures=root / "pictures",
        )
    dirs = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    return AppPaths(
        config=Path(dirs.user_config_dir),
        data=Path(dirs.user_data_dir),
        cache=Path(dirs.user_cache_dir),
        log=Path(dirs.user_log_dir),
        pictures=Path(dirs.user_pictures_dir) / "Headroom",
    )


def resource(relative: str) -> Path:
    """A file or folder of `resources/`, such as "models/demo".

    Raises:
        ValueError: The path is absolute or leaves `resources/`.
    """
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"not a resource path: {relative!r}")
    for root in (Path(__file__).resolve().parents[1] / "resources", _SOURCE_ROOT / "resources"):
        if root.is_dir():
            return root / path
    return _SOURCE_ROOT / "resources" / path
