"""`bench`: how fast this machine computes, copies, and does both at once; kept for plans."""

import math
from dataclasses import asdict

from app.cli.kept_speeds import keep_speeds, last_words
from app.cli.report import write_json
from app.cli.stdout import write_out
from app.core.bench_result import BenchResult
from app.core.errors import OutputError
from app.core.machine_speeds import MachineSpeeds
from app.core.paths import app_paths
from app.core.settings import SettingsStore
from app.core.units import format_bandwidth, format_bytes, format_flops, format_seconds
from app.engine.calibration_run import bench_with_engine
from app.engine.client import StartEngine, engine_starter

EXIT_OK = 0


def run_bench(*, device: str | None, as_json: bool, start: StartEngine | None = None) -> int:
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
    chosen = device or SettingsStore(app_paths().settings_file).load().device
    result = bench_with_engine(start or engine_starter(device=chosen))
    problem, refused = "", None
    try:
        problem = keep_speeds(chosen, _speeds(result), over_others=True)
    except OutputError as error:
        refused = error
    if as_json:
        remarks = [remark for remark in (*result.remarks, problem) if remark]
        told = {**asdict(result), "remarks": remarks}
        derived = {"floor_step_s": result.floor_step_s, "over_floor": result.over_floor}
        write_json({"event": "bench", **told, **derived})
    else:
        write_out(_as_text(result, problem, kept=refused is None))
    if refused is not None:
        # Last: it took a while to measure, and is worth reading also where it is not kept.
        raise refused
    return EXIT_OK


def _speeds(result: BenchResult) -> MachineSpeeds:
    copied = result.copy_bytes_per_s
    return MachineSpeeds(
        device=result.device,
        device_name=result.device_name,
        torch_version=result.torch_version,
        precision=result.precision,
        compute_flops=result.compute_flops,
        pinned_bytes_per_s=copied if result.pinned else None,
        pageable_bytes_per_s=None if result.pinned else copied,
        seconds=result.seconds,
        remarks=result.remarks,
    )


def _as_text(result: BenchResult, problem: str, *, kept: bool) -> str:
    size = format_bytes(result.blocks * result.block_bytes)
    rows = [
        ("device", f"{result.device_name}, torch {result.torch_version}"),
        (
            "stack",
            f"{result.blocks} blocks, {size} in {result.precision}, {result.tokens} tokens",
        ),
        (
            "computing alone",
            f"{_step(result.compute_step_s)}, {format_flops(result.compute_flops)}",
        ),
        ("copying alone", _copying(result)),
        ("floor", "" if result.floor_step_s is None else _step(result.floor_step_s)),
        ("streamed", _streamed(result)),
        ("predicted", _predicted(result)),
        ("link, streaming", _link(result)),
    ]
    text = "".join(f"{name:20}{found}\n" for name, found in rows if found)
    text += "".join(f"{remark}\n" for remark in (*result.remarks, problem) if remark)
    return text + last_words(result.seconds, kept=kept)


def _copying(result: BenchResult) -> str:
    if result.copy_bytes_per_s is None:
        return ""
    whole_s = result.blocks * result.block_bytes / result.copy_bytes_per_s
    kind = "pinned" if result.pinned else "pageable"
    return f"{_step(whole_s)}, {format_bandwidth(result.copy_bytes_per_s)} from {kind} RAM"


def _streamed(result: BenchResult) -> str:
    if result.streamed_step_s is None:
        return ""
    text = f"{_step(result.streamed_step_s)} through {format_bytes(result.slots_bytes)} of slots"
    over = result.over_floor
    return text if over is None else f"{text}, {over:.2f} × the floor"


def _predicted(result: BenchResult) -> str:
    if result.predicted_step_s is None or not result.streamed_step_s:
        return ""
    off = result.predicted_step_s / result.streamed_step_s - 1
    return f"{_step(result.predicted_step_s)} ({off:+.0%} of what was measured)"


def _link(result: BenchResult) -> str:
    if result.achieved_bytes_per_s is None or result.hidden_share is None:
        return ""
    hidden = math.floor(result.hidden_share * 100)
    return f"{format_bandwidth(result.achieved_bytes_per_s)}, {hidden} % hidden"


def _step(seconds: float) -> str:
    """Steps of a bench are short: in milliseconds below a second."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else format_seconds(seconds)
