"""A recording as a table for spreadsheets."""

import csv
import io
import math

from app.monitor.buffers import Columns
from app.monitor.reading import Series
from app.monitor.recorder import END_MARKS, PhaseMark


def recording_csv(rows: Columns, marks: tuple[PhaseMark, ...], *, began_s: float) -> str:
    """The table: seconds since the beginning, phase, low and high of each series in bytes.

    Low and high of a row differ where a long recording was made coarser. A cell is empty where the
    machine does not tell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{series.name.lower()}_{side}_bytes" for series in Series for side in ("min", "max")]
    writer.writerow(["time_s", "phase", *names])
    phases = sorted(marks, key=lambda mark: mark.time_s)
    phase, following = "", 0
    for row, time_s in enumerate(rows.times_s):
        while following < len(phases) and phases[following].time_s <= time_s:
            mark = phases[following].mark
            phase = "" if mark in END_MARKS else mark.value
            following += 1
        cells = [
            _cell(side[row])
            for low, high in zip(rows.lows, rows.highs, strict=True)
            for side in (low, high)
        ]
        writer.writerow([f"{time_s - began_s:.3f}", phase, *cells])
    return text.getvalue()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0f}"
