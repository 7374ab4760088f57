"""`models`: what is kept of them on the disk and can be made again, and removing it."""

from app.cli.models_arguments import ModelsArguments
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.errors import OutputError, RequestError
from app.core.paths import AppPaths, app_paths
from app.core.settings import SettingsStore
from app.core.units import format_bytes
from app.engine.catalog import Catalog
from app.engine.planning.precisions import PRECISION_WORDS
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import KeptFile, kept_files, remove

ALL = "all"


def tell_kept(*, as_json: bool) -> None:
    """Say what is kept."""
    paths = app_paths()
    files = kept_files(paths.converted_folder)
    prompts_bytes = prompt_folder(paths.embeddings_folder).size_bytes()
    if as_json:
        write_json(
            {
                "event": "kept",
                "converted": [_as_json(kept) for kept in files],
                "converted_bytes": _size_bytes(files),
                "converted_folder": str(paths.converted_folder),
                "prompts_bytes": prompts_bytes,
                "prompts_folder": str(paths.embeddings_folder),
            }
        )
        return
    lines = [f"Kept on disk: {_converted_words(files)}; prompts, {format_bytes(prompts_bytes)}"]
    lines += [f"  {_as_text(kept)} ({kept.path.name})" for kept in files]
    if files:
        lines.append(f"  in {paths.converted_folder}")
    write_out("\n" + "\n".join(lines) + "\n")


def run_remove_kept(arguments: ModelsArguments, *, as_json: bool) -> int:
    """Remove what was named; returns the exit code.

    Raises:
        RequestError: Nothing is kept by that name; nothing was removed.
        OutputError: Something cannot be removed.
    """
    paths = app_paths()
    name = arguments.remove_converted
    chosen = [] if name is None else _chosen(name, paths)
    removed: list[KeptFile] = []
    problem: OutputError | None = None
    for kept in chosen:
        try:
            remove(kept)
        except OSError as error:
            problem = problem or _not_removed(kept, error)
        else:
            removed.append(kept)
    freed_bytes = 0
    if arguments.clear_prompts:
        prompts = prompt_folder(paths.embeddings_folder)
        before_bytes = prompts.size_bytes()
        prompts.clear()
        freed_bytes = before_bytes - prompts.size_bytes()
    if as_json:
        write_json(
            {
                "event": "removed",
                "converted": [_as_json(kept) for kept in removed],
                "converted_bytes": _size_bytes(removed),
                "prompts_bytes": freed_bytes,
            }
        )
    else:
        lines = [f"removed: {_as_text(kept)}" for kept in removed]
        if name is not None and not chosen:
            lines.append("no converted weights are kept")
        if arguments.clear_prompts:
            lines.append(f"removed: kept prompts, {format_bytes(freed_bytes)}")
        write_out("".join(f"{line}\n" for line in lines))
    if problem is not None:
        raise problem
    return 0


def _chosen(name: str, paths: AppPaths) -> list[KeptFile]:
    files = kept_files(paths.converted_folder)
    if name == ALL:
        return files
    folders = SettingsStore(paths.settings_file).load().model_folders
    labels = {
        entry.label
        for entry in Catalog(folders).entries()
        if name == str(entry.folder) or (entry.known is not None and name == entry.known.name)
    }
    chosen = [
        kept
        for kept in files
        if kept.model in {name, *labels} or name in (kept.path.name, kept.path.stem)
    ]
    if not chosen:
        raise RequestError(
            f"No converted weights of “{name[:80]}” are kept: give a model's name, the name of a "
            f"file that “headroom models” lists, or “{ALL}”.",
            code="model.not_converted",
        )
    return chosen


def _not_removed(kept: KeptFile, error: OSError) -> OutputError:
    return OutputError(
        f"{kept.path} cannot be removed ({error.strerror or error}): close Headroom's window and "
        "other programs that use the file, allow writing in its folder, and try again.",
        code="output.not_removed",
    )


def _size_bytes(files: list[KeptFile]) -> int:
    return sum(kept.size_bytes for kept in files)


def _converted_words(files: list[KeptFile]) -> str:
    if not files:
        return "no converted weights"
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"converted weights, {format_bytes(_size_bytes(files))} in {count}"


def _as_text(kept: KeptFile) -> str:
    component = kept.component.replace("_", " ")
    precision = PRECISION_WORDS.get(kept.precision, kept.precision.value)
    model = kept.model or "unknown model"
    return f"{model}, {component} in {precision}, {format_bytes(kept.size_bytes)}"


def _as_json(kept: KeptFile) -> dict[str, object]:
    return {
        "model": kept.model,
        "component": kept.component,
        "precision": kept.precision.value,
        "size_bytes": kept.size_bytes,
        "used_s": kept.used_s,
        "path": str(kept.path),
    }
