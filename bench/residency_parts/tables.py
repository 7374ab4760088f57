"""The tables of what was measured, and of what was modelled."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.residency_parts.cases import (
    FLOORS,
    GROUP,
    GROUP_LOW,
    HEADROOM,
    LEAST,
    MODEL,
    OFFLOADS,
    RESIDENT,
    SEQUENTIAL,
    cap_text,
)
from bench.residency_parts.rows import OK, Row
from bench.residency_parts.targets import FASTER, RAM_GB, floor_s, holds

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
FASTER_HEADER = (
    "the comparison",
    "RAM",
    "8 GB cards: 3 x",
    "from, to",
    "others: 1.5 x",
    "from, to",
    "nothing of diffusers fits",
)
RAM_HEADER = (
    "model",
    "precision",
    "group, stream: RAM GB",
    "others: RAM GB",
    *(f"left in {ram_gb} GB" for ram_gb in RAM_GB if ram_gb is not None),
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


def faster_table(checks: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """How the aim of being faster is met, by how it is read and by the computer's RAM."""
    found: dict[tuple[str, int | None], list[Mapping[str, Any]]] = {}
    for check in checks:
        if "reading" in check:
            found.setdefault((check["reading"], check["ram_gb"]), []).append(check)
    lines: list[list[str]] = []
    for (reading, ram_gb), several in found.items():
        small = [one for one in several if one["cap_bytes"] in FASTER]
        others = [one for one in several if one["cap_bytes"] not in FASTER]
        lines.append(
            [
                reading,
                "any" if ram_gb is None else f"{ram_gb} GB",
                *_met(small),
                *_met(others),
                str(sum(one["value"] is None for one in several)),
            ]
        )
    return lines


def _met(checks: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    known = [one for one in checks if one["value"] is not None]
    if not known:
        return "-", "-"
    values = sorted(one["value"] for one in known)
    met = sum(one["met"] for one in known)
    return f"{met} of {len(known)}", f"{values[0]:.2f}, {values[-1]:.2f}"


def ram_table(rows: Sequence[Row]) -> list[list[str]]:
    """What diffusers' modes take of RAM for the transformer, and which of them are left."""
    lines: list[list[str]] = []
    for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in rows):
        needed = {
            row["mode"]: row
            for row in rows
            if (row["model"], row["precision"], row["status"]) == (model, precision, OK)
            and row["mode"] in OFFLOADS
        }
        left = [
            [mode.removeprefix("diffusers-") for mode in OFFLOADS if mode in needed
             and holds(ram_gb, needed[mode])]
            for ram_gb in RAM_GB if ram_gb is not None
        ]  # fmt: skip
        lines.append(
            [
                model,
                precision,
                _gb(needed[GROUP]["ram_bytes"]),
                _gb(needed[GROUP_LOW]["ram_bytes"]),
                *("all" if len(modes) == len(needed) else ", ".join(modes) or "none"
                  for modes in left),
            ]
        )  # fmt: skip
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
