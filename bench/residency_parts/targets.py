"""The aims of the project's issue, looked at row by row."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.residency_parts.cases import GIB, HEADROOM, LEAST, OFFLOADS, SMALL
from bench.residency_parts.rows import OK, Row

GB = 10**9
STEP_FACTOR = 1.05
"""Of the larger floor: what computing takes, or what copying the streamed bytes takes."""
RAM_FACTOR = 1.05
FASTER = {8 * GIB: 3.0}
"""Than the best offload mode of diffusers that runs on the same card; else `FASTER_ELSE`."""
FASTER_ELSE = 1.5
LEAST_VRAM_BYTES = {
    ("klein-4b", "fp8"): 2 * GB,
    ("klein-9b", "fp8"): 3 * GB,
    ("dev", "fp8"): 5 * GB,
}
"""Of the plan that needs least at 1024 px, without the context."""


def check_targets(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Every aim that a row of Headroom can be held against, with its figures.

    The aim of being faster counts where diffusers' best mode has to offload in each step; where
    the whole transformer fits, both compute only, and no one can be faster by offloading better.
    """
    known = list(rows)
    return [
        check
        for row in known
        if row["mode"] in (HEADROOM, LEAST) and row["status"] == OK and row["model"] != SMALL
        for check in _checks(row, known)
    ]


def best_offload(row: Row, rows: Sequence[Row], *, precision: str) -> Row | None:
    """The fastest row of diffusers' offload modes for the same model and card."""
    found = [
        other
        for other in rows
        if other["mode"] in OFFLOADS
        and other["status"] == OK
        and other["precision"] == precision
        and other["model"] == row["model"]
        and other["cap_bytes"] == row["cap_bytes"]
        and other.get("gpu") == row.get("gpu")
    ]
    return min(found, key=lambda other: other["step_s"], default=None)


def floor_s(row: Row) -> float | None:
    """The larger of the two floors."""
    if not row["compute_s"] or not row["bytes_per_s"]:
        return None
    return max(row["compute_s"], (row["streamed_bytes"] or 0) / row["bytes_per_s"])


def _checks(row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def note(aim: str, value: float, limit: float, *, met: bool) -> None:
        names = ("model", "precision", "mode", "cap_bytes", "gpu")
        known = {name: row[name] for name in names if name in row}
        found.append({**known, "aim": aim, "value": value, "limit": limit, "met": met})

    floor = floor_s(row)
    if floor:
        value = row["step_s"] / floor
        note("step over the larger floor", value, STEP_FACTOR, met=value <= STEP_FACTOR)
    if row["mode"] == HEADROOM:
        limit = FASTER.get(row["cap_bytes"], FASTER_ELSE)
        for precision in dict.fromkeys((row["precision"], "bf16")):
            best = best_offload(row, rows, precision=precision)
            if best is not None and row["step_s"] and best["streamed_bytes"]:
                value = best["step_s"] / row["step_s"]
                aim = f"faster than {best['mode']} in {precision}"
                note(aim, value, limit, met=value >= limit)
    if row["ram_bytes"] and row["weights_bytes"]:
        value = row["ram_bytes"] / row["weights_bytes"]
        note("RAM over the weights", value, RAM_FACTOR, met=value <= RAM_FACTOR)
    least = LEAST_VRAM_BYTES.get((row["model"], row["precision"]))
    if row["mode"] == LEAST and least and row["peak_vram_bytes"]:
        note("VRAM", row["peak_vram_bytes"], least, met=row["peak_vram_bytes"] <= least)
    return found
