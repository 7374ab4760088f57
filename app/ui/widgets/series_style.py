"""How each series of the memory graph looks: told apart by fill and name, not by colour alone."""

import enum
from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication, QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen

from app.ui import theme
from app.ui.models.memory_frame import Lane

FILL_ALPHA = 64
HATCH_ALPHA = 110
RESIDENT_ALPHA = 150


class Role(enum.Enum):
    """What a series stands for in its lane."""

    OURS = "ours"
    OTHERS = "others"
    USED = "used"
    RESIDENT = "resident"
    SLOTS = "slots"
    WORKING = "working"


PARTS = (Role.WORKING, Role.SLOTS, Role.RESIDENT)
"""What ours consists of, as the graph has it from top to bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStyle:
    """Brushes and pens of a series, made for the colours of the moment.

    Attributes:
        line: Colour of the curve and of its values.
        tint: Under the curve; None for a bare line.
        hatch: Over the tint, for the series of others: ours is plain, theirs is striped.
    """

    line: QColor
    tint: QBrush | None = None
    hatch: QBrush | None = None


def series_style(lane: Lane, role: Role) -> SeriesStyle:
    """The look of a series in the scheme in use now."""
    scheme = theme.colours()
    line = QColor(scheme.graph_ours)
    if role in {Role.OURS, Role.WORKING}:
        return SeriesStyle(line=line, tint=_tint(line, FILL_ALPHA))
    if role is Role.RESIDENT:
        return SeriesStyle(line=line, tint=_tint(line, RESIDENT_ALPHA))
    if role is Role.SLOTS:
        cross = QColor(line)
        cross.setAlpha(HATCH_ALPHA)
        return SeriesStyle(
            line=line,
            tint=_tint(line, FILL_ALPHA // 2),
            hatch=QBrush(cross, Qt.BrushStyle.DiagCrossPattern),
        )
    others = QColor(scheme.graph_others if lane is Lane.DEVICE else scheme.graph_host)
    if role is Role.OTHERS:
        hatch = QColor(others)
        hatch.setAlpha(HATCH_ALPHA)
        return SeriesStyle(
            line=others,
            tint=_tint(others, FILL_ALPHA // 3),
            hatch=QBrush(hatch, Qt.BrushStyle.BDiagPattern),
        )
    return SeriesStyle(line=QColor(scheme.text))


def lane_name(lane: Lane) -> str:
    """What a memory is called."""
    translate = QCoreApplication.translate
    if lane is Lane.DEVICE:
        return translate("MemoryGraph", "GPU memory")
    return translate("MemoryGraph", "RAM")


def series_name(role: Role) -> str:
    """What a series is called, beside its figures."""
    translate = QCoreApplication.translate
    return {
        Role.OURS: translate("MemoryGraph", "Headroom"),
        Role.OTHERS: translate("MemoryGraph", "Other programs"),
        Role.USED: translate("MemoryGraph", "In use"),
        Role.RESIDENT: translate("MemoryGraph", "Resident weights"),
        Role.SLOTS: translate("MemoryGraph", "Slots"),
        Role.WORKING: translate("MemoryGraph", "Working memory"),
    }[role]


def short_name(role: Role) -> str:
    """What a series is called where there is little room."""
    translate = QCoreApplication.translate
    return {
        Role.OTHERS: translate("MemoryGraph", "Others"),
        Role.RESIDENT: translate("MemoryGraph", "Resident"),
        Role.WORKING: translate("MemoryGraph", "Working"),
    }.get(role) or series_name(role)


def mark_name(name: str) -> str:
    """What a mark of the recording is called."""
    translate = QCoreApplication.translate
    names = {
        "load": translate("MemoryGraph", "Load"),
        "encode": translate("MemoryGraph", "Encode"),
        "denoise": translate("MemoryGraph", "Denoise"),
        "decode": translate("MemoryGraph", "Decode"),
        "save": translate("MemoryGraph", "Save"),
        "restarted": translate("MemoryGraph", "Restart"),
        "finished": translate("MemoryGraph", "Done"),
        "cancelled": translate("MemoryGraph", "Cancelled"),
        "failed": translate("MemoryGraph", "Failed"),
    }
    return names.get(name, name)


def paint_swatch(painter: QPainter, rect: QRectF, style: SeriesStyle) -> None:
    """A small sample of a series, as in the graph: its fill under its line."""
    painter.setPen(Qt.PenStyle.NoPen)
    for brush in (style.tint, style.hatch):
        if brush is not None:
            painter.setBrush(brush)
            painter.drawRect(rect)
    pen = QPen(style.line, 2)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    painter.setPen(pen)
    y = rect.top() + 1
    painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))


def _tint(colour: QColor, alpha: int) -> QBrush:
    made = QColor(colour)
    made.setAlpha(alpha)
    return QBrush(made)
