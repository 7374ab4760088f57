"""A run's report as a file others can read: JSON with everything, or a table of its phases."""

import csv
import io
from pathlib import Path
from typing import Any

import msgspec

from app.core.atomic import write_atomic
from app.core.run_report import AnyReport, PhaseReport

SCHEMA_VERSION = 1
CSV_SUFFIX = ".csv"
_COLUMNS: tuple[str, ...] = (
    "phase",
    "planned_bytes",
    "measured_bytes",
    "bytes_error",
    "planned_seconds",
    "measured_seconds",
    "seconds_error",
    "streamed_bytes",
    "streamed_bytes_per_s",
    "planned_waiting_seconds",
    "waited_seconds",
)


def report_json(report: AnyReport) -> str:
    """Everything, with the errors worked out."""
    values: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(report)}
    values["phases"] = [_values(phase) for phase in report.phases]
    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode() + "\n"


def report_csv(report: AnyReport) -> str:
    """One line a phase; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_values(phase) for phase in report.phases)
    return text.getvalue()


def write_report(report: AnyReport, path: Path) -> None:
    """Write a report: a table where the name says so, else JSON.

    Raises:
        OSError: The file cannot be written; what was there is as before.
    """
    as_table = path.suffix.lower() == CSV_SUFFIX
    write_atomic(path, (report_csv(report) if as_table else report_json(report)).encode())


def _values(phase: PhaseReport) -> dict[str, Any]:
    streamed = phase.streamed
    compared = None if streamed is None or not streamed.steps else streamed
    return {
        "phase": phase.phase.value,
        "planned_bytes": phase.planned_bytes,
        "measured_bytes": phase.measured_bytes,
        "bytes_error": phase.bytes_error,
        "planned_seconds": phase.planned_seconds,
        "measured_seconds": phase.measured_seconds,
        "seconds_error": phase.seconds_error,
        "streamed_bytes": None if streamed is None else streamed.streaming.streamed_bytes,
        "streamed_bytes_per_s": None if streamed is None else streamed.streaming.bytes_per_s,
        "planned_waiting_seconds": None if compared is None else compared.planned_waiting_s,
        "waited_seconds": None if compared is None else compared.waited_s,
    }
