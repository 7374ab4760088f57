"""Arithmetic of the memory graph: ticks, spans and places for labels. No Qt objects in here."""

import math
from collections.abc import Sequence

from app.core.units import GIB, MIB

RECENT_S = 60.0
_RUN_SPANS_S = (
    2,
    3,
    5,
    8,
    12,
    20,
    30,
    45,
    60,
    90,
    120,
    180,
    240,
    300,
    450,
    600,
    900,
    1200,
    1800,
    2700,
)
_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
_HOUR_S = 3600
_LITTLE_S = 0.95
"""Less would read as nothing at all."""
ZOOM_SHARE = 0.5
"""RAM whose use stays below this share of the total is shown enlarged, its limit out of sight."""

Tick = tuple[float, str]


def memory_step_bytes(top_bytes: float, *, most: int) -> float:
    """A distance between ticks that memory comes in: 1, 2, 4, 8, ... of GB, MB or bytes."""
    return 2.0 ** math.ceil(math.log2(max(1.0, top_bytes / max(1, most))) - 1e-9)


def memory_ticks(top_bytes: float, *, most: int) -> tuple[Tick, ...]:
    """Ticks from 0 to at most `top_bytes`; the last one carries the unit."""
    step = memory_step_bytes(top_bytes, most=most)
    unit, name = (GIB, "GB") if top_bytes >= GIB else (MIB, "MB")
    count = math.floor(top_bytes / step + 1e-9)
    ticks = [(index * step, f"{index * step / unit:g}") for index in range(count + 1)]
    value, text = ticks[-1]
    ticks[-1] = (value, f"{text} {name}")
    return tuple(ticks)


def lane_top_bytes(
    highest_bytes: float, total_bytes: int, *, previous_bytes: float | None
) -> float:
    """The upper end of RAM's axis: the total, or a rounder, smaller one while little is used.

    Args:
        highest_bytes: Largest value in sight.
        total_bytes: There is.
        previous_bytes: What it was: it shrinks only when it can become much smaller, so that the
            picture does not jump up and down.
    """
    if highest_bytes >= total_bytes * ZOOM_SHARE:
        return float(total_bytes)
    wanted = highest_bytes * 1.2
    step = memory_step_bytes(max(wanted, 64 * MIB), most=4)
    top = min(float(total_bytes), max(1, math.ceil(wanted / step)) * step)
    if previous_bytes is not None and wanted <= previous_bytes <= total_bytes:
        return previous_bytes if top > previous_bytes * 0.6 else top
    return top


def run_span_s(elapsed_s: float) -> float:
    """The width of a run's time axis: grows in leaps, so that the picture rarely moves."""
    for span in _RUN_SPANS_S:
        if elapsed_s <= span:
            return float(span)
    return math.ceil(elapsed_s / _HOUR_S * 2) * _HOUR_S / 2


def time_ticks(span_s: float, *, most: int) -> tuple[Tick, ...]:
    """Ticks of a run's time axis, from its beginning."""
    wanted = span_s / max(1, most)
    step = next((one for one in _TIME_STEPS_S if one >= wanted), _TIME_STEPS_S[-1])
    return tuple((float(at), format_elapsed(at)) for at in range(0, int(span_s) + 1, step))


def recent_ticks(now: str, *, most: int) -> tuple[Tick, ...]:
    """Ticks of the last 60 s; `now` is the word at the right end."""
    step = next(one for one in (10, 15, 20, 30, 60) if RECENT_S / one <= max(1, most))
    past = tuple((float(-at), f"\N{MINUS SIGN}{at} s") for at in range(int(RECENT_S), 0, -step))
    return (*past, (0.0, now))


def format_elapsed(seconds: float) -> str:
    """A moment on a time axis: "45 s", "2:30", "1:05:00"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def format_ahead(seconds: float) -> str:
    """How far a plan reaches, as short as can be: "<1 s", "+45 s", "+6:03", "+1.9 h"."""
    if seconds < _LITTLE_S:
        return "<1 s"
    told = format_elapsed(seconds) if seconds < _HOUR_S else f"{seconds / _HOUR_S:.1f} h"
    return f"+{told}"


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> tuple[float, ...]:
    """Move places (pixels, in rising order) as little as needed to be `gap` apart within bounds."""
    moved: list[float] = []
    floor = low
    for place in places:
        floor = max(place, floor)
        moved.append(floor)
        floor += gap
    ceiling = high
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return tuple(moved)


def format_gb(size_bytes: float | None) -> str:
    """A figure in GB without its unit, two decimals; a dash for what nobody tells."""
    return "–" if size_bytes is None else f"{size_bytes / GIB:.2f}"
