"""What the readout says about one moment of the memory graph."""

from PySide6.QtCore import QCoreApplication

from app.core.units import format_bytes, format_seconds
from app.ui.models.forecast_frame import ForecastBox
from app.ui.models.memory_frame import Lane, LaneFrame, MemoryFrame, MemoryView
from app.ui.widgets.graph_scale import format_elapsed
from app.ui.widgets.memory_readout import ReadoutRow
from app.ui.widgets.series_style import Role, lane_name, mark_name, series_name

_ENDS = ("finished", "cancelled", "failed")


def moment_title(frame: MemoryFrame, time_s: float) -> str:
    """The time in words, and the phase it falls into."""
    if frame.view is MemoryView.RECENT:
        ago_s = max(0.0, frame.origin_s - time_s)
        when = QCoreApplication.translate("MemoryGraph", "{seconds} s ago").format(
            seconds=f"{ago_s:.1f}"
        )
    else:
        since_s = max(0.0, time_s - frame.origin_s)
        when = f"{since_s:.1f} s" if since_s < 60 else format_elapsed(since_s)
    passed = [mark.name for mark in frame.marks if mark.time_s <= time_s]
    if passed and passed[-1] not in _ENDS:
        return f"{when} · {mark_name(passed[-1])}"
    return when


def moment_rows(frame: MemoryFrame, row: int) -> tuple[ReadoutRow, ...]:
    """Values of all series in a recorded row, in the order of the picture from the top."""
    rows: list[ReadoutRow] = []
    for lane in frame.lanes:
        ours, used = float(lane.ours[row]), float(lane.used[row])
        known = ours == ours
        prefix = f"{lane_name(lane.lane)}: " if len(frame.lanes) > 1 else ""
        values = {
            Role.OTHERS: used - (ours if known else 0.0),
            Role.OURS: ours if known else None,
        }
        rows.extend(
            ReadoutRow(
                lane=lane.lane,
                role=role,
                name=prefix + series_name(role),
                value="–" if value is None else format_bytes(round(value)),
            )
            for role, value in (values | _parts(lane, row)).items()
        )
    return tuple(rows)


def _parts(lane: LaneFrame, row: int) -> dict[Role, float]:
    """What ours consisted of, where the engine told."""
    if lane.resident is None or lane.slots is None:
        return {}
    resident, slots, ours = lane.resident[row], lane.slots[row], float(lane.ours[row])
    if resident != resident or slots != slots or ours != ours:
        return {}
    working = max(0.0, ours - resident - slots)
    return {Role.WORKING: working, Role.SLOTS: slots, Role.RESIDENT: resident}


def forecast_title(box: ForecastBox) -> str:
    """The phase that is ahead, and how long it takes."""
    return QCoreApplication.translate("MemoryGraph", "{phase} · planned, {time}").format(
        phase=mark_name(box.phase.value), time=format_seconds(box.end_s - box.start_s)
    )


def forecast_rows(lane: Lane, box: ForecastBox) -> tuple[ReadoutRow, ...]:
    """What our engine is expected to use at most in a phase."""
    value = format_bytes(box.expected_bytes)
    unsure_bytes = box.high_bytes - box.expected_bytes
    if unsure_bytes > 0:
        value = f"{value} ± {format_bytes(unsure_bytes)}"
    name = QCoreApplication.translate("MemoryGraph", "Headroom, at most")
    return (ReadoutRow(lane=lane, role=Role.OURS, name=name, value=value),)
