"""`models`: what can be given as --model, and what is kept on the disk."""

from app.cli.models_kept import tell_kept
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.paths import app_paths
from app.core.settings import SettingsStore
from app.core.units import format_bytes
from app.engine.catalog import Catalog, CatalogEntry


def run_models(*, as_json: bool) -> int:
    """List the catalog and what is kept; returns the exit code."""
    settings = SettingsStore(app_paths().settings_file).load()
    for entry in Catalog(settings.model_folders).entries():
        if as_json:
            write_json(_as_json(entry))
        else:
            write_out(_as_text(entry))
    tell_kept(as_json=as_json)
    return 0


def _as_json(entry: CatalogEntry) -> dict[str, object]:
    line: dict[str, object] = {
        "name": entry.known.name if entry.known is not None else None,
        "label": entry.label,
        "folder": None if entry.folder is None else str(entry.folder),
        "usable": entry.info is not None,
        "error": None,
        "source": entry.known.source if entry.known is not None else "",
        "licence": entry.known.licence if entry.known is not None else "",
    }
    if entry.error is not None:
        line["error"] = {"code": entry.error.code, "message": entry.error.message}
    if entry.info is not None:
        info = entry.info
        line |= {
            "steps": info.default_steps,
            "guidance": info.default_guidance,
            "width": info.default_width_px,
            "height": info.default_height_px,
            "weights_bytes": info.weights_bytes,
        }
    return line


def _as_text(entry: CatalogEntry) -> str:
    name = entry.known.name if entry.known is not None else str(entry.folder)
    lines = [f"{name:16} {entry.label}"]
    if entry.info is not None:
        info = entry.info
        lines.append(
            f"{format_bytes(info.weights_bytes)} in {info.folder}; {info.default_steps} steps, "
            f"guidance {info.default_guidance:g}, "
            f"{info.default_width_px} × {info.default_height_px} px"
        )
    elif entry.error is not None:
        lines.append(f"cannot be used: {entry.error.message}")
    elif entry.known is not None:
        lines.append(
            f"not installed: download its folder from {entry.known.source}, then give the folder "
            "as --model or add it in the window under Models"
        )
    return f"\n{'':17}".join(lines) + "\n"
