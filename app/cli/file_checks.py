"""Doctor: settings, folders, disks and models."""

import shutil
from pathlib import Path

from app.cli.check import Check, note, ok, problem
from app.core.folder_check import existing_part, obstacle_to_writing
from app.core.paths import AppPaths
from app.core.settings import Settings, SettingsStore
from app.core.units import GIB, format_bytes
from app.engine.catalog import Catalog

LITTLE_DISK_BYTES = 2 * GIB
TOO_LITTLE_DISK_BYTES = GIB // 10
"""A few PNG files and a log fit."""


def check_settings(store: SettingsStore) -> list[Check]:
    """Sentences of a store that has been loaded."""
    remedy = "Set it again in the window's settings."
    return [note("settings", sentence, remedy) for sentence in store.problems] or [
        ok("settings", "readable")
    ]


def check_folders(paths: AppPaths, settings: Settings) -> list[Check]:
    """Whether the app's folders can be written."""
    return [_check_folder(name, folder) for name, folder in _folders(paths, settings).items()]


def check_disks(paths: AppPaths, settings: Settings) -> list[Check]:
    """Space where results and the app's own files go."""
    folders = _folders(paths, settings)
    return [_check_disk(name, folders[name]) for name in ("pictures", "data")]


def check_models(settings: Settings) -> list[Check]:
    """The demo, and every folder the user added."""
    checks: list[Check] = []
    for entry in Catalog(settings.model_folders).entries():
        if entry.folder is None:
            continue
        name = "model.demo" if entry.known is not None and not entry.known.source else "model"
        if entry.error is not None:
            checks.append(problem(name, f"{entry.label} cannot be used.", entry.error.message))
        else:
            checks.append(ok(name, f"{entry.label} in {entry.folder}"))
    return checks


def _folders(paths: AppPaths, settings: Settings) -> dict[str, Path]:
    return {
        "config": paths.config,
        "data": paths.data,
        "cache": paths.cache,
        "log": paths.log,
        "pictures": Path(settings.pictures_folder or paths.pictures),
    }


def _check_folder(name: str, folder: Path) -> Check:
    obstacle = obstacle_to_writing(folder)
    if obstacle is not None:
        reason = f"{obstacle.at} is a file" if obstacle.is_file else obstacle.reason
        return problem(
            f"folder.{name}",
            f"{folder} cannot be written ({reason}).",
            f"Change the permissions of {obstacle.at}, or choose another folder in the settings.",
        )
    made = "" if existing_part(folder) == folder else " (made when it is needed)"
    return ok(f"folder.{name}", f"{folder}{made}")


def _check_disk(name: str, folder: Path) -> Check:
    try:
        usage = shutil.disk_usage(existing_part(folder))
    except OSError as error:
        return note(f"disk.{name}", f"Unknown ({error.strerror or error}).", "Check the drive.")
    found = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} for {folder}"
    if usage.free < TOO_LITTLE_DISK_BYTES:
        return problem(f"disk.{name}", found, "Free some disk space: images cannot be saved.")
    if usage.free < LITTLE_DISK_BYTES:
        return note(f"disk.{name}", found, "Free some disk space soon.")
    return ok(f"disk.{name}", found)
