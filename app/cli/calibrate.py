"""`doctor --calibrate`: measure how fast this machine is, tell it, and keep it for plans."""

from app.cli.gpu_here import gpu_here
from app.cli.kept_speeds import keep_speeds, last_words
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.errors import OutputError
from app.core.machine_speeds import MachineSpeeds
from app.core.paths import app_paths
from app.core.settings import SettingsStore
from app.core.units import format_bandwidth, format_bytes, format_flops
from app.engine.calibration_run import measure_with_engine
from app.engine.catalog import Catalog
from app.engine.client import StartEngine, engine_starter
from app.engine.protocol import Calibrate

EXIT_OK = 0


def run_calibrate(*, device: str | None, as_json: bool, start: StartEngine | None = None) -> int:
    """Measure and tell; returns the exit code.

    Args:
        device: "auto", "cpu", "cuda:1", ...; None is as in the settings.
        as_json: For programs.
        start: Makes an engine process; by default a real one.

    Raises:
        SetupError: There is no such device, or the engine cannot be started.
        EngineError: The engine failed.
        OutputError: What was measured was told, but cannot be kept.
    """
    paths = app_paths()
    settings = SettingsStore(paths.settings_file).load()
    chosen = device or settings.device
    folders = tuple(
        str(entry.folder)
        for entry in Catalog(settings.model_folders).entries()
        if entry.folder is not None
    )
    speeds = measure_with_engine(
        start or engine_starter(device=chosen),
        Calibrate(model_folders=folders, scratch_folder=str(paths.cache)),
        own_bytes=lambda pid: _own_bytes(chosen, pid),
    )
    problem, refused = "", None
    try:
        problem = keep_speeds(chosen, speeds)
    except OutputError as error:
        refused = error
    if as_json:
        write_json(_as_json(speeds, problem))
    else:
        write_out(_as_text(speeds, problem, kept=refused is None))
    if refused is not None:
        # Last: it took a while to measure, and is worth reading also where it is not kept.
        raise refused
    return EXIT_OK


def _own_bytes(device: str, pid: int) -> int | None:
    gpu = gpu_here(device, pid=pid)
    return None if gpu is None else gpu.snapshot.engine_bytes


def _as_json(speeds: MachineSpeeds, problem: str) -> dict[str, object]:
    return {
        "event": "calibration",
        "device": speeds.device,
        "device_name": speeds.device_name,
        "torch_version": speeds.torch_version,
        "precision": speeds.precision,
        "compute_flops": speeds.compute_flops,
        "pinned_bytes_per_s": speeds.pinned_bytes_per_s,
        "pageable_bytes_per_s": speeds.pageable_bytes_per_s,
        "read_bytes_per_s": speeds.read_bytes_per_s,
        "context_bytes": speeds.context_bytes,
        "seconds": speeds.seconds,
        "remarks": [remark for remark in (*speeds.remarks, problem) if remark],
    }


def _as_text(speeds: MachineSpeeds, problem: str, *, kept: bool) -> str:
    rows = [
        ("device", f"{speeds.device_name}, torch {speeds.torch_version}"),
        ("compute", f"{format_flops(speeds.compute_flops)} in {speeds.precision}"),
        ("copy, pinned", _rate(speeds.pinned_bytes_per_s)),
        ("copy, pageable", _rate(speeds.pageable_bytes_per_s)),
        ("disk", _rate(speeds.read_bytes_per_s)),
        ("context", "" if speeds.context_bytes is None else format_bytes(speeds.context_bytes)),
    ]
    text = "".join(f"{name:20}{found}\n" for name, found in rows if found)
    text += "".join(f"{remark}\n" for remark in (*speeds.remarks, problem) if remark)
    return text + last_words(speeds.seconds, kept=kept)


def _rate(bytes_per_s: float | None) -> str:
    return "" if bytes_per_s is None else format_bandwidth(bytes_per_s)
