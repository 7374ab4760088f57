"""What our engine's memory consists of, as the graph draws and names it."""

from itertools import pairwise

import numpy as np
from PySide6.QtGui import QColor

from app.ui.models.memory_frame import LaneFrame
from app.ui.widgets.curve_layer import CurvePart
from app.ui.widgets.graph_projection import Points, Projection, as_points
from app.ui.widgets.graph_scale import format_gb
from app.ui.widgets.lane_canvas import LaneLabel
from app.ui.widgets.series_style import PARTS, Role, series_style, short_name


def curve_parts(lane: LaneFrame, scale: Projection, ys_ours: Points) -> tuple[CurvePart, ...]:
    """What ours consists of; nothing where the engine does not tell, or has told of nothing yet."""
    if lane.resident is None or lane.slots is None:
        return ()
    resident = np.nan_to_num(as_points(lane.resident))
    slots = np.nan_to_num(as_points(lane.slots))
    # A row of a long recording has the highest of each, which together may be more than ours.
    lines = (
        ys_ours,
        np.maximum(ys_ours, scale.ys_px(resident + slots)),
        np.maximum(ys_ours, scale.ys_px(resident)),
        np.full_like(ys_ours, scale.height_px),
    )
    return tuple(
        CurvePart(upper=upper, lower=lower, style=series_style(lane.lane, role))
        for role, (upper, lower) in zip(PARTS, pairwise(lines), strict=True)
    )


def part_labels(lane: LaneFrame, scale: Projection, colour: QColor) -> tuple[LaneLabel, ...]:
    """What stays and what is streamed through, at the heights where they end."""
    resident, slots = _last(lane.resident), _last(lane.slots)
    tops = {Role.SLOTS: (slots, resident + slots), Role.RESIDENT: (resident, resident)}
    return tuple(
        LaneLabel(y_px=scale.y_px(top), value=format_gb(size), text=short_name(role), colour=colour)
        for role, (size, top) in tops.items()
        if size > 0
    )


def _last(values: memoryview | None) -> float:
    """The latest value; 0 where nobody tells."""
    last = 0.0 if values is None or not len(values) else float(values[-1])
    return last if last == last else 0.0
