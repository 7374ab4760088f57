"""Rows as figures and tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from app.core.units import MIB
from bench.verdicts_parts.checks import Row
from bench.verdicts_parts.truth import MORE, NAMES, USUAL, truths_of

HEADER = ("card", "plans", *(f"over, {name}" for name in NAMES), "fullest")
GROW, FIXED = "grow", "of fixed size"
"""The allocator's segments."""
_WORST = 40


def card_table(rows: Sequence[Row]) -> list[list[str]]:
    """By card: how many of the plans that are to fit ran out, by truth, and the fullest one."""
    fitting = [row for row in rows if row.kind != "refused"]
    found: list[list[str]] = []
    for card_gb in sorted({row.card_gb for row in fitting}):
        here = [row for row in fitting if row.card_gb == card_gb]
        outs = Counter(name for row in here for name in row.ran_out)
        full = max(row.peaks[USUAL] / row.budget_bytes for row in here)
        cells = [outs[name] for name in NAMES]
        found.append([f"{card_gb:g} GB", str(len(here)), *map(str, cells), f"{full:.1%}"])
    return found


def figures(
    rows: Sequence[Row], *, cases: int, plans: int, counts: dict[str, int]
) -> dict[str, Any]:
    """All that is written.

    Args:
        rows: Of plans that were carried out.
        cases: Of the grid.
        plans: Of these cases that differ.
        counts: Of what was done.
    """
    fitting = [row for row in rows if row.kind != "refused"]
    refused = [row for row in rows if row.kind == "refused"]
    return {
        "cases": cases,
        "plans": plans,
        **counts,
        "truths": [
            asdict(truth)
            for growing in (True, False)
            for truth in truths_of(growing=growing).values()
        ],
        "carried_out": Counter(row.kind for row in rows),
        "segments": _by(fitting, _segments),
        "cards": _by(fitting, lambda row: f"{row.card_gb:g} GB"),
        "models": _by(fitting, lambda row: row.model),
        "precisions": _by(fitting, lambda row: row.precision),
        "modes": _by(fitting, lambda row: row.mode),
        "verdicts": _by(fitting, lambda row: row.verdict),
        "phases": _phases(row for row in fitting if row.growing),
        "refused": {
            word: _refused(row for row in refused if _segments(row) == word)
            for word in (GROW, FIXED)
        },
        "unplanned": [_short(row) for row in fitting if row.ran_out],
        "fullest": [
            _short(row)
            for row in sorted(
                fitting, key=lambda row: row.peaks[MORE] / row.budget_bytes, reverse=True
            )[:_WORST]
        ],
        "refused_but_fits": [_short(row) for row in refused if not row.ran_out][:_WORST],
    }


def _by(rows: Sequence[Row], key: Any) -> dict[str, Any]:  # noqa: ANN401 - a function of a row
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {
        name: {
            "plans": len(group),
            "ran_out": Counter(truth for row in group for truth in row.ran_out),
            "short_of_its_figure": Counter(truth for row in group for truth in row.short),
            "fullest": round(max(row.peaks[USUAL] / row.budget_bytes for row in group), 4),
        }
        for name, group in groups.items()
    }


def _phases(rows: Iterable[Row]) -> dict[str, Any]:
    """Planned against carried out, phase by phase, on the usual card."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if USUAL in row.ran_out:
            continue
        for phase in row.phases:
            if not phase.tensor_bytes or not phase.planned_bytes:
                continue
            here = found.setdefault(phase.phase, {"tensors": [], "peak": [], "beyond": []})
            here["tensors"].append((phase.tensor_bytes - phase.planned_bytes) / MIB)
            here["peak"].append((phase.peak_bytes - phase.planned_peak_bytes) / MIB)
            most = phase.planned_peak_bytes + phase.doubt_bytes
            here["beyond"].append((phase.peak_bytes - most) / MIB)
    return {
        name: {
            "runs": len(values["tensors"]),
            "tensors_mib": _spread(values["tensors"]),
            "peak_mib": _spread(values["peak"]),
            "beyond_doubt_mib": _spread(values["beyond"]),
        }
        for name, values in found.items()
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "least": round(ordered[0], 1),
        "median": round(ordered[len(ordered) // 2], 1),
        "most": round(ordered[-1], 1),
    }


def _segments(row: Row) -> str:
    return GROW if row.growing else FIXED


def _refused(rows: Iterable[Row]) -> dict[str, int]:
    """How refusals stand: the first truth by which the least way is over the card."""
    found: Counter[str] = Counter()
    for row in rows:
        first = next((name for name in NAMES if name in row.ran_out), "none")
        found[first] += 1
    return dict(found)


def _short(row: Row) -> dict[str, Any]:
    return {
        "case": row.case,
        "kind": row.kind,
        "verdict": row.verdict,
        "budget_bytes": row.budget_bytes,
        "needed_bytes": row.needed_bytes,
        "peaks": row.peaks,
        "ran_out": row.ran_out,
    }
