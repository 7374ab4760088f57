"""The tables of what was measured, and of what was modelled."""

from collections.abc import Iterable, Sequence

from bench.residency_parts.cases import (
    FLOORS,
    GROUP,
    GROUP_LOW,
    HEADROOM,
    LEAST,
    MODEL,
    RESIDENT,
    SEQUENTIAL,
    cap_text,
)
from bench.residency_parts.rows import OK, Row
from bench.residency_parts.targets import floor_s

GB = 10**9
MEASURED_HEADER = (
    "model",
    "card",
    "precision",
    "mode",
    "s/step",
    "/ floor",
    "VRAM GB",
    "RAM GB",
    "streamed GB",
    "what became of it",
)
MODELLED_HEADER = (
    "GPU",
    "precision",
    "computing",
    "copying all",
    "Headroom",
    "VRAM",
    "least VRAM",
    "all on the card",
    "sequential",
    "group, stream",
    "group, low RAM",
    "RAM",
    "RAM, group",
)
CPU_HEADER = (
    "precision",
    "card",
    "mode",
    "weights",
    "on the device",
    "of it slots",
    "copied each step",
    "as planned",
    "same bits",
)


def measured_table(rows: Iterable[Row]) -> list[list[str]]:
    """One line for each case, without the floors, which stand beside them."""
    return [
        [
            row["model"],
            "-" if row["cap_bytes"] is None else cap_text(row["cap_bytes"]),
            row["precision"],
            row["mode"],
            _seconds(row["step_s"]),
            _over_floor(row),
            _gb(row["peak_vram_bytes"]),
            _gb(row["ram_bytes"]),
            _gb(row["streamed_bytes"]),
            row["status"],
        ]
        for row in rows
        if row["mode"] != FLOORS
    ]


def modelled_table(rows: Sequence[Row], model: str, cap_bytes: int) -> list[list[str]]:
    """One line for each GPU class and precision, as one card."""
    by_case: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row["model"] == model and row["cap_bytes"] == cap_bytes:
            by_case.setdefault((row["gpu"], row["precision"]), {})[row["mode"]] = row
    lines: list[list[str]] = []
    for (gpu, precision), modes in by_case.items():
        own = modes[HEADROOM]
        copying_s = own["weights_bytes"] / own["bytes_per_s"]
        whole = modes[MODEL] if modes[MODEL]["status"] == OK else modes[RESIDENT]
        lines.append(
            [
                gpu,
                precision,
                _seconds(own["compute_s"]),
                _seconds(copying_s),
                _cell(own),
                _gb(own["peak_vram_bytes"]),
                _gb(modes[LEAST]["peak_vram_bytes"]),
                _cell(whole),
                _cell(modes[SEQUENTIAL]),
                _cell(modes[GROUP]),
                _cell(modes[GROUP_LOW]),
                _gb(own["weights_bytes"]),
                _gb(modes[GROUP]["ram_bytes"]),
            ]
        )
    return lines


def cpu_table(rows: Iterable[Row]) -> list[list[str]]:
    """Bytes and bits of the small network; seconds of a CPU say nothing about GPUs."""
    known = list(rows)
    wanted = {row["precision"]: row.get("digest") for row in known if row["mode"] == RESIDENT}
    lines: list[list[str]] = []
    for row in known:
        if row["mode"] == FLOORS:
            continue
        head = [row["precision"], cap_text(row["cap_bytes"]), row["mode"]]
        if row["status"] != OK:
            lines.append([*head, row["status"], *[""] * 5])
            continue
        accounted = row.get("accounted")
        same = row.get("digest") == wanted.get(row["precision"])
        lines.append(
            [
                *head,
                _bytes(row["weights_bytes"]),
                _bytes(row["device_weights_bytes"]),
                _bytes(row["slots_bytes"]),
                _bytes(row["streamed_bytes"]),
                "" if accounted is None else "yes" if accounted else "NO",
                "yes" if same else "NO",
            ]
        )
    return lines


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table for the docs."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _cell(row: Row) -> str:
    return _seconds(row["step_s"]) if row["status"] == OK else "-"


def _over_floor(row: Row) -> str:
    floor = floor_s(row)
    return "-" if not floor or not row["step_s"] else f"{row['step_s'] / floor:.2f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def _gb(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / GB:.1f}"


def _bytes(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes:,}"
