"""Runs cases one after the other, each in a process of its own, so that none inherits memory."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.residency_parts.cases import FLOORS, Case
from bench.residency_parts.rows import (
    FAILED,
    OK,
    OUT_OF_RAM,
    OUT_OF_RAM_CODE,
    TIME_LIMIT,
    Row,
    new_row,
)

ROOT = Path(__file__).resolve().parents[2]
CHILD = (sys.executable, "-m", "bench.residency_parts.child")
KILLED = -9
"""By the system, which does that when RAM runs out."""

RunCase = Callable[[Case], Row]


def run_in_process(case: Case, limit_s: float, command: tuple[str, ...] = CHILD) -> Row:
    """Run one case; whatever becomes of its process, there is a row.

    Args:
        case: To run.
        limit_s: After so long it is ended.
        command: Given the case and the file for its row.
    """
    with tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
        result = Path(folder) / "row.json"
        try:
            ended = subprocess.run(
                [*command, case.to_json(), str(result)],
                cwd=ROOT,
                timeout=limit_s,
                stderr=subprocess.PIPE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return new_row(case, TIME_LIMIT, note=f"ended after {limit_s:g} s")
        if result.exists():
            row: Row = json.loads(result.read_text(encoding="utf-8"))
            return row
    if ended.returncode in (OUT_OF_RAM_CODE, KILLED):
        return new_row(case, OUT_OF_RAM, note="its process was ended before RAM ran out")
    last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return new_row(case, FAILED, note=f"exit code {ended.returncode}: {''.join(last)}"[:300])


def run_all(cases: Iterable[Case], run: RunCase) -> Iterator[Row]:
    """Rows as they come; what the floors show is told to the cases after them, and put beside them.

    Args:
        cases: Each model's and precision's floors first.
        run: Runs one.
    """
    floors: dict[tuple[str, str], Row] = {}
    for case in cases:
        found = floors.get((case.model, case.precision))
        if case.mode != FLOORS and found is not None:
            case = replace(
                case,
                compute_s=found["compute_s"],
                bytes_per_s=found["bytes_per_s"],
                context_bytes=found["context_bytes"],
            )
        row = run(case)
        if case.mode == FLOORS and row["status"] == OK:
            floors[case.model, case.precision] = row
        if case.mode != FLOORS and case.compute_s:
            row = {**row, "compute_s": case.compute_s, "bytes_per_s": case.bytes_per_s}
        yield row
