"""Streaming residency against diffusers' offload modes; writes bench/results/residency*.json.

    python bench/residency.py                      on a machine with an NVIDIA GPU: measures
    python bench/residency.py --device cpu         a small network on the CPU: bytes and bits
    python bench/residency.py --parts encode       a prompt through the streamed text encoder
    python bench/residency.py --parts convert      a checkpoint quantized from the disk, and loaded
    python bench/residency.py --modelled           what should come out on GPUs that are not here
    python bench/residency.py --page               docs/residency-bench.md from the result files

Real-size transformers of FLUX.2 klein 4B, klein 9B and dev with random weights that are made on the
spot; nothing is downloaded. Cards of 8, 12, 16 and 24 GB are acted: torch's allocator is capped by
`torch.cuda.set_per_process_memory_fraction`, and the planner is told by `MemoryPolicy.limit_bytes`.
Each case runs in a process of its own, has a time limit, and is a row whatever becomes of it; the
file is written after each. Rows of cases that are not asked for stay in the file.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.report import RESULTS, table, write_result  # noqa: E402
from bench.residency_parts.cases import (  # noqa: E402
    CAPS,
    GROUP_BLOCKING,
    MODELS,
    MODES,
    PRECISIONS,
    SMALL,
    SMALL_CAPS,
    all_cases,
    parse_cap,
)
from bench.residency_parts.diffusers_rules import RULES  # noqa: E402
from bench.residency_parts.gpus import assumptions, gpu_here  # noqa: E402
from bench.residency_parts.modelled import modelled_rows  # noqa: E402
from bench.residency_parts.page import PAGE, page  # noqa: E402
from bench.residency_parts.rows import Row, compact, full, key_of  # noqa: E402
from bench.residency_parts.runner import RunCase, run_all, run_in_process  # noqa: E402
from bench.residency_parts.tables import MEASURED_HEADER, measured_table  # noqa: E402
from bench.residency_parts.targets import check_targets  # noqa: E402

NOTES = {
    "residency": "Measured on the GPU that is named, capped to act as smaller cards.",
    "residency_cpu": (
        "On the CPU, with a small network: bytes and bits count, the seconds say nothing of GPUs."
    ),
    "residency_encode": "Where the device is the CPU, processor time of one thread.",
    "residency_convert": "The disk's own times were taken right after, in the same process.",
    "residency_modelled": "Modelled, not measured: no GPU was at hand.",
}
PARTS = ("steps", "encode", "convert")
"""All of them unless some are asked for."""
CPU_MODEL, CPU_LAYERS = "klein-4b", 6
"""What a machine without a GPU encodes and converts in minutes."""
SIZE_PX = 1024
SMALL_SIZE_PX = 64
STEPS = 4
LIMIT_S = 600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Measure or model, print, write."""
    arguments = _parser().parse_args(argv)
    if arguments.page:
        PAGE.write_text(page(), encoding="utf-8")
    elif arguments.modelled:
        _model(arguments)
    else:
        if "steps" in arguments.parts:
            _measure(arguments)
        if "encode" in arguments.parts:
            _encode(arguments)
        if "convert" in arguments.parts:
            _convert(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="as a GPU is here or not")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=[*MODELS, SMALL])
    parser.add_argument("--caps", nargs="+", type=_cap, metavar="GB", help="8, 8GB, 2MB")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--modes", nargs="+", choices=list(MODES))
    parser.add_argument("--size", type=int, metavar="PX", help="side of the picture")
    parser.add_argument("--steps", type=int, default=STEPS, help="that are timed in each case")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="for each case")
    parser.add_argument(
        "--same-process",
        action="store_true",
        help="no process for each case, and so no time limit: for the CPU",
    )
    parser.add_argument("--disk", type=Path, metavar="FOLDER", help="on the disk to convert on")
    parser.add_argument("--modelled", action="store_true", help="compute the modelled table")
    parser.add_argument("--page", action="store_true", help="write docs/residency-bench.md")
    parser.add_argument("--no-write", action="store_true", help="only print")
    return parser


def _cap(text: str) -> int:
    try:
        return parse_cap(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _model(arguments: argparse.Namespace) -> None:
    caps = arguments.caps or [parse_cap(cap) for cap in CAPS]
    rows = list(
        modelled_rows(
            arguments.models or MODELS, caps, arguments.precisions, arguments.size or SIZE_PX
        )
    )
    print(table(MEASURED_HEADER, measured_table(rows)))
    if not arguments.no_write:
        more = {"assumptions": assumptions(), "rules": RULES}
        _write("residency_modelled", rows, more)


def _measure(arguments: argparse.Namespace) -> None:
    gpu = gpu_here()
    device = arguments.device or ("cuda" if gpu else "cpu")
    on_cpu = device == "cpu"
    models = arguments.models or ([SMALL] if on_cpu else MODELS)
    caps = arguments.caps or [parse_cap(cap) for cap in (SMALL_CAPS if on_cpu else CAPS)]
    modes = arguments.modes or [mode for mode in MODES if on_cpu or mode != GROUP_BLOCKING]
    size_px = arguments.size or (SMALL_SIZE_PX if on_cpu else SIZE_PX)
    name = "residency_cpu" if on_cpu else "residency"
    cases = all_cases(
        models,
        caps,
        arguments.precisions,
        modes,
        device=device,
        size_px=size_px,
        steps=arguments.steps,
    )
    rows = [] if arguments.no_write else _known(name)
    more = {"gpu": None if on_cpu else gpu, "size_px": size_px, "steps": arguments.steps}
    for found in run_all(cases, _runner(arguments)):
        row = found if on_cpu else {**found, "gpu": gpu}
        print(f"{row['model']} {row['precision']} {row['mode']}: {row['status']}", flush=True)
        rows = [old for old in rows if key_of(old) != key_of(row)] + [row]
        if not arguments.no_write:
            _write(name, rows, more)
    print(table(MEASURED_HEADER, measured_table(rows)))
    for check in check_targets(rows):
        print("met" if check["met"] else "NOT met", check)


def _encode(arguments: argparse.Namespace) -> None:
    # Loads torch, which this process is otherwise without.
    from bench.residency_parts.encode import measure_encode

    device, models = _device_and_models(arguments)
    layers = CPU_LAYERS if device == "cpu" else None
    _write_parts("encode", arguments, (measure_encode(m, device, layers=layers) for m in models))


def _convert(arguments: argparse.Namespace) -> None:
    from bench.residency_parts.convert import PRECISIONS as CONVERTED
    from bench.residency_parts.convert import measure_convert

    device, models = _device_and_models(arguments)
    kept = [precision for precision in arguments.precisions if precision in CONVERTED]
    found = (one for m in models for one in measure_convert(m, kept, device, arguments.disk))
    _write_parts("convert", arguments, found)


def _device_and_models(arguments: argparse.Namespace) -> tuple[str, Sequence[str]]:
    device = arguments.device or ("cuda" if gpu_here() else "cpu")
    return device, arguments.models or ([CPU_MODEL] if device == "cpu" else MODELS)


def _write_parts(
    part: str, arguments: argparse.Namespace, measured: Iterable[dict[str, Any]]
) -> None:
    """Figures as they come, in the place of those of the same case."""
    name = f"residency_{part}"
    for figures in measured:
        print(figures, flush=True)
        if arguments.no_write:
            continue
        case = [figures.get(key) for key in ("model", "device", "precision")]
        others = [
            row
            for row in _known(name)
            if [row.get(key) for key in ("model", "device", "precision")] != case
        ]
        write_result(name, {"rows": [*others, figures]}, note=NOTES[name])


def _runner(arguments: argparse.Namespace) -> RunCase:
    if not arguments.same_process:
        return lambda case: run_in_process(case, arguments.limit_s)
    # Loads torch, which this process is otherwise without.
    from bench.residency_parts.child import run

    return run


def _known(name: str) -> list[Row]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["figures"]["rows"]
    return [full(row) if "mode" in row else row for row in rows]


def _write(name: str, rows: Iterable[Row], more: dict[str, Any]) -> None:
    known = list(rows)
    figures = {**more, "rows": [compact(row) for row in known], "targets": check_targets(known)}
    write_result(name, figures, note=NOTES[name])


if __name__ == "__main__":
    main()
