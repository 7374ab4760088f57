"""What every bench shares: the machine's description, a table, a result file."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from app.core.processor import processor_name

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "diffusers", "transformers", "PySide6-Essentials", "pyqtgraph", "numpy")


def machine() -> dict[str, Any]:
    """Hardware and versions a figure depends on; nothing that names the machine or its user."""
    return {
        "cpu": processor_name(),
        "cores": psutil.cpu_count(),
        "ram_bytes": psutil.virtual_memory().total,
        "gpu": None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def write_result(name: str, figures: Mapping[str, Any], *, note: str) -> Path:
    """Write `bench/results/<name>.json` with date, machine and figures; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    result = {
        "bench": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "note": note,
        "machine": machine(),
        "figures": dict(figures),
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, the first left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "  ".join(padded)

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def percentile(values: Sequence[float], share: float) -> float:
    """Below which so large a share of the values is, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
