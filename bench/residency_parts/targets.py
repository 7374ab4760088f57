"""The aims of the project's issue, looked at row by row.

That Headroom is to be faster than diffusers' best offload mode can be read in two ways: with the
same weights on both sides, or as one gets them, where diffusers' modes have the published bf16.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.residency_parts.cases import (
    GIB,
    GROUP_LOW,
    HEADROOM,
    LEAST,
    OFFLOADS,
    SEQUENTIAL,
    SMALL,
)
from bench.residency_parts.rows import NOT_HERE, OK, OUT_OF_MEMORY, OUT_OF_RAM, Row

GB = 10**9
STEP_FACTOR = 1.05
"""Of the larger floor: what computing takes, or what copying the streamed bytes takes."""
RAM_FACTOR = 1.05
FASTER = {8 * GIB: 3.0}
"""Than the best offload mode of diffusers that runs on the same card; else `FASTER_ELSE`."""
FASTER_ELSE = 1.5
SAME, AS_THEY_COME = "same precision", "bf16 for diffusers"
"""How that aim is read."""
NOTHING_FITS = "faster than diffusers, of which nothing fits"
"""The aim is met then, without a figure."""
RAM_GB = (None, 64, 32)
"""Of the computer, for which it is looked at; None is as much as anyone asks for."""
NO_ROOM = (OUT_OF_MEMORY, OUT_OF_RAM, NOT_HERE)
SYSTEM_RAM_BYTES = 4 * GIB
"""Of it, for everything but the transformer's weights."""
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


def holds(ram_gb: int | None, row: Row) -> bool:
    """Whether a computer's RAM holds what a row needs of it."""
    needed = row["ram_bytes"] or row["weights_bytes"] or 0
    return ram_gb is None or needed <= ram_gb * GIB - SYSTEM_RAM_BYTES


def best_offload(
    row: Row, rows: Sequence[Row], *, precision: str, ram_gb: int | None = None
) -> Row | None:
    """The fastest row of diffusers' offload modes for the same model, card and RAM."""
    found = [
        other
        for other in rows
        if other["mode"] in OFFLOADS
        and other["status"] == OK
        and holds(ram_gb, other)
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


def _nothing_fits(row: Row, rows: Sequence[Row], precision: str, ram_gb: int | None) -> bool:
    """Whether diffusers' offload modes, also those that need least, were tried and have no room."""
    case = (row["model"], row["cap_bytes"], row.get("gpu"), precision)
    tried = [
        one
        for one in rows
        if one["mode"] in OFFLOADS
        and (one["model"], one["cap_bytes"], one.get("gpu"), one["precision"]) == case
    ]
    return {SEQUENTIAL, GROUP_LOW} <= {one["mode"] for one in tried} and all(
        one["status"] in NO_ROOM or (one["status"] == OK and not holds(ram_gb, one))
        for one in tried
    )


def _checks(row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def note(aim: str, value: float | None, limit: float, *, met: bool, **more: Any) -> None:  # noqa: ANN401
        names = ("model", "precision", "mode", "cap_bytes", "gpu")
        known = {name: row[name] for name in names if name in row}
        found.append({**known, **more, "aim": aim, "value": value, "limit": limit, "met": met})

    floor = floor_s(row)
    if floor:
        value = row["step_s"] / floor
        note("step over the larger floor", value, STEP_FACTOR, met=value <= STEP_FACTOR)
    if row["mode"] == HEADROOM:
        limit = FASTER.get(row["cap_bytes"], FASTER_ELSE)
        for reading, precision in ((SAME, row["precision"]), (AS_THEY_COME, "bf16")):
            for ram_gb in RAM_GB:
                if not holds(ram_gb, row):
                    continue
                best = best_offload(row, rows, precision=precision, ram_gb=ram_gb)
                more = {"reading": reading, "ram_gb": ram_gb}
                if best is None and _nothing_fits(row, rows, precision, ram_gb):
                    note(NOTHING_FITS, None, limit, met=True, **more)
                elif best is not None and row["step_s"] and best["streamed_bytes"]:
                    value = best["step_s"] / row["step_s"]
                    aim = f"faster than {best['mode']} in {precision}"
                    note(aim, value, limit, met=value >= limit, **more)
    if row["ram_bytes"] and row["weights_bytes"]:
        value = row["ram_bytes"] / row["weights_bytes"]
        note("RAM over the weights", value, RAM_FACTOR, met=value <= RAM_FACTOR)
    least = LEAST_VRAM_BYTES.get((row["model"], row["precision"]))
    if row["mode"] == LEAST and least and row["peak_vram_bytes"]:
        note("VRAM", row["peak_vram_bytes"], least, met=row["peak_vram_bytes"] <= least)
    return found
