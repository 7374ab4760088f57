"""What came of a case, as it stands in the result file."""

from typing import Any

from bench.residency_parts.cases import Case

Row = dict[str, Any]
"""See `new_row`; plain data for json."""

OK = "ok"
OUT_OF_MEMORY = "out of memory"
DOES_NOT_FIT = "does not fit"
NOT_HERE = "does not run here"
OUT_OF_RAM = "not enough RAM"
TIME_LIMIT = "time limit"
FAILED = "failed"
OUT_OF_RAM_CODE = 77
"""With which a case's process ends itself."""
STATUSES = (OK, OUT_OF_MEMORY, DOES_NOT_FIT, NOT_HERE, OUT_OF_RAM, TIME_LIMIT, FAILED)

FIGURES = (
    "step_s",
    "bring_s",
    "peak_vram_bytes",
    "reserved_vram_bytes",
    "context_bytes",
    "ram_bytes",
    "weights_bytes",
    "streamed_bytes",
    "device_weights_bytes",
    "slots_bytes",
    "planned_vram_bytes",
    "compute_s",
    "bytes_per_s",
    "predicted_s",
)
"""Of every row, None where it was not measured:

- step_s: One step in a row of them; bring_s: from weights in RAM to the end of the first step.
- peak_vram_bytes: Of tensors; reserved_vram_bytes: of torch's allocator; context_bytes: besides.
- ram_bytes: The most the process took of RAM, above what it had before it made weights.
- weights_bytes: Of the transformer as it is kept; streamed_bytes: of them, in each step.
- device_weights_bytes: Weights on the device with the slots; slots_bytes: of them.
- planned_vram_bytes: The plan's peak of the denoise phase.
- compute_s, bytes_per_s: The two floors; predicted_s: of the timeline model.
"""


def new_row(case: Case, status: str, *, note: str = "", **figures: Any) -> Row:  # noqa: ANN401
    """A row with all its figures.

    Args:
        case: That was run.
        status: Of `STATUSES`.
        note: Why, in a sentence.
        figures: Of `FIGURES`, and "accounted", "digest", "tier" where they are known.

    Raises:
        ValueError: A status or figure that is none.
    """
    more = {"accounted", "digest", "tier"}
    if status not in STATUSES or not set(figures) <= {*FIGURES, *more}:
        raise ValueError(f"no such status or figure: {status}, {sorted(figures)}")
    row: Row = {
        "model": case.model,
        "mode": case.mode,
        "precision": case.precision,
        "cap_bytes": case.cap_bytes,
        "status": status,
        "note": note,
    }
    row.update({name: figures.get(name) for name in FIGURES})
    row.update({name: figures[name] for name in sorted(more) if name in figures})
    return row


def key_of(row: Row) -> tuple[object, ...]:
    """What a later row of the same case has in common with it."""
    return row["model"], row["precision"], row["cap_bytes"], row["mode"], row.get("gpu")


def compact(row: Row) -> Row:
    """Without the figures that are not known."""
    return {name: value for name, value in row.items() if value not in (None, "")}


def full(row: Row) -> Row:
    """What was compacted, with all names again."""
    empty: Row = {"cap_bytes": None, "note": "", **dict.fromkeys(FIGURES)}
    return {**empty, **row}
