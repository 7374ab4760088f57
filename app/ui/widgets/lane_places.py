"""Where marks, our peak and the crosshair are in a lane, in pixels."""

from app.ui.models.memory_frame import LaneFrame, MarkFrame
from app.ui.widgets.graph_projection import Points, Projection, row_at
from app.ui.widgets.series_style import mark_name


def marks_at(scale: Projection, marks: tuple[MarkFrame, ...]) -> tuple[tuple[float, str], ...]:
    """Positions and names of the marks that are in sight."""
    return tuple(
        (scale.x_px(mark.time_s), mark_name(mark.name))
        for mark in marks
        if mark.time_s >= scale.left_s
    )


def peak_at(scale: Projection, lane: LaneFrame) -> tuple[float, float] | None:
    """Where our peak is; None without one, or when it is out of sight."""
    peak = lane.peak
    if peak is None or peak.value_bytes <= 0:
        return None
    x = scale.x_px(peak.time_s)
    if not -0.5 <= x <= scale.plot_width_px + 0.5:
        return None
    return (x, scale.y_px(peak.value_bytes))


def hover_at(
    scale: Projection, share: float | None, times: Points, ys_ours: Points, ys_used: Points
) -> tuple[float | None, tuple[float, ...]]:
    """Where the crosshair is, and the heights of the curves there."""
    if share is None:
        return None, ()
    x = share * scale.plot_width_px
    row = row_at(times, scale.time_s(x))
    return x, () if row is None else (float(ys_ours[row]), float(ys_used[row]))
