"""Arithmetic of the forecast in the memory graph: boxes in pixels. No Qt objects in here."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.jobs import Phase
from app.ui.models.forecast_frame import Forecast, ForecastBox
from app.ui.widgets.graph_projection import Projection

AHEAD_SHARE = 0.36
"""Of the plot's width, for what is ahead of now."""
AHEAD_MIN_PX = 72
AHEAD_MAX_PX = 300
NARROWEST_PX = 5.0
"""A phase of a moment may still be the one with the highest peak: it must be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxShape:
    """One phase in pixels of the plot, y downwards.

    Attributes:
        phase: Which.
        left_px: Where it begins.
        right_px: Where it ends.
        high_y_px: Height of the upper end of the uncertainty.
        y_px: Height of what is expected.
        low_y_px: Height of the lower end.
        over: Whether what is expected is more than may be used.
    """

    phase: Phase
    left_px: float
    right_px: float
    high_y_px: float
    y_px: float
    low_y_px: float
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadShape:
    """What is ahead of now, right of the curves.

    Attributes:
        left_px: Where now is.
        width_px: Of the zone.
        boxes: In it.
    """

    left_px: float
    width_px: float
    boxes: tuple[BoxShape, ...]

    def box_at(self, x_px: float) -> int | None:
        """Number of the box at this place; None where there is none."""
        for number, box in enumerate(self.boxes):
            if box.left_px <= x_px < box.right_px:
                return number
        return None


def ahead_width_px(room_px: float) -> float:
    """Room for what is ahead, of the room there is for curves."""
    return float(round(min(AHEAD_MAX_PX, max(AHEAD_MIN_PX, room_px * AHEAD_SHARE))))


def ahead_shape(
    forecast: Forecast, scale: Projection, *, left_px: float, width_px: float
) -> AheadShape:
    """The boxes ahead of now: in their order, about as wide as they are long.

    The zone has a scale of its own, since a plan may take seconds or hours.
    """
    widths = _widths(forecast, width_px)
    boxes: list[BoxShape] = []
    x = left_px
    for box, width in zip(forecast.ahead, widths, strict=True):
        # Whole pixels: in a run the boxes wander, and are painted anew only when one moves.
        boxes.append(_shape(box, scale, float(round(x)), float(round(x + width))))
        x += width
    return AheadShape(left_px=left_px, width_px=width_px, boxes=tuple(boxes))


def behind_shapes(boxes: Sequence[ForecastBox], scale: Projection) -> tuple[BoxShape, ...]:
    """The boxes behind the curves, at their times."""
    return tuple(
        _shape(box, scale, scale.x_px(box.start_s), scale.x_px(box.end_s)) for box in boxes
    )


def _widths(forecast: Forecast, width_px: float) -> tuple[float, ...]:
    boxes = forecast.ahead
    if not boxes:
        return ()
    durations = [box.end_s - box.start_s for box in boxes]
    whole_s = max(forecast.ahead_s, sum(durations))
    # What has passed of a run leaves its room empty: the boxes wander to the left edge.
    used_px = width_px * (sum(durations) / whole_s if whole_s > 0 else 1.0)
    spare_px = max(0.0, used_px - NARROWEST_PX * len(boxes))
    total_s = sum(durations)
    if total_s <= 0:
        return (used_px / len(boxes),) * len(boxes)
    return tuple(
        min(NARROWEST_PX, used_px / len(boxes)) + spare_px * one / total_s for one in durations
    )


def _shape(box: ForecastBox, scale: Projection, left_px: float, right_px: float) -> BoxShape:
    return BoxShape(
        phase=box.phase,
        left_px=left_px,
        right_px=right_px,
        high_y_px=scale.y_px(box.high_bytes),
        y_px=scale.y_px(box.expected_bytes),
        low_y_px=scale.y_px(box.low_bytes),
        over=box.over,
    )
