"""The memory graph in words, for those who do not see it."""

from PySide6.QtCore import QCoreApplication

from app.core.units import format_bytes
from app.ui.models.memory_frame import LaneFigures, MemoryFigures
from app.ui.widgets.series_style import lane_name


def memory_words(figures: MemoryFigures) -> str:
    """One sentence for each memory: how much is in use of what there is, and our peak."""
    if not figures.lanes:
        return QCoreApplication.translate("MemoryGraph", "No figures yet.")
    return " ".join(_lane_words(lane) for lane in figures.lanes)


def _lane_words(lane: LaneFigures) -> str:
    translate = QCoreApplication.translate
    values = {
        "memory": lane_name(lane.lane),
        "used": _size(lane.used.now),
        "total": format_bytes(lane.total_bytes),
        "ours": _size(lane.ours.now),
        "peak": _size(lane.ours.peak),
    }
    if lane.ours.now is None and lane.ours.peak is None:
        text = translate("MemoryGraph", "{memory}: {used} of {total} in use, none by Headroom.")
    else:
        text = translate(
            "MemoryGraph",
            "{memory}: {used} of {total} in use, {ours} of it by Headroom, whose peak was {peak}.",
        )
    parts = lane.parts
    if parts is not None and lane.ours.now is not None:
        text += translate(
            "MemoryGraph",
            " Of Headroom's, {resident} are resident weights, {slots} slots for streaming, and "
            "{working} working memory.",
        )
        values |= {
            "resident": _size(parts.resident.now),
            "slots": _size(parts.slots.now),
            "working": _size(parts.working.now),
        }
    return text.format(**values)


def _size(size_bytes: float | None) -> str:
    if size_bytes is None:
        return QCoreApplication.translate("MemoryGraph", "nothing")
    return format_bytes(round(size_bytes))
