"""Draws one job of the queue: what, how large, where it is, how far, and why it failed."""

from typing import Any

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from app.core.jobs import Job, JobState
from app.ui import theme
from app.ui.models.jobs_model import JOB_ROLE, PROGRESS_ROLE, JobsModel, prompt_excerpt
from app.ui.models.progress_text import progress_text
from app.ui.models.run_progress import RunProgress
from app.ui.widgets.wrapping_label import breakable

BAR_HEIGHT_PX = 4
_LINE_PX = 20
_SMALL_LINE_PX = 17
_LOOKS: dict[JobState, tuple[str, str]] = {
    # Icon and its colour; the word beside it says the same.
    JobState.QUEUED: ("queue", "muted"),
    JobState.RUNNING: ("play", "accent"),
    JobState.FINISHED: ("check", "good"),
    JobState.CANCELLED: ("stop", "muted"),
    JobState.FAILED: ("error", "danger"),
}
_WRAP = Qt.TextFlag.TextWordWrap
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class JobDelegate(QStyledItemDelegate):
    """One card per job."""

    def __init__(self, jobs: JobsModel, view: QListView) -> None:
        super().__init__(view)
        self._jobs = jobs
        self._view = view
        # Read once: painting must not touch the disk. They follow the theme by themselves.
        self._icons = {state: theme.icon(name, colour) for state, (name, colour) in _LOOKS.items()}

    def sizeHint(
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        fields: Any = option
        font: QFont = fields.font
        job: Job = index.data(JOB_ROLE)
        width = self._view.viewport().width()
        height = 2 * theme.SPACING_PX + _LINE_PX + _SMALL_LINE_PX
        if job.state is JobState.RUNNING:
            height += _SMALL_LINE_PX + theme.SPACING_PX
        if job.error is not None:
            height += _error_height(job.error.message, font, _text_width(width)) + 4
        return QSize(width, height)

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        # The stubs do not know the public fields of Qt's options.
        fields: Any = option
        cell: QRect = fields.rect
        state: QStyle.StateFlag = fields.state
        job: Job = index.data(JOB_ROLE)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        _paint_background(painter, cell, state)
        self._icons[job.state].paint(painter, _icon_area(cell))
        area = _text_area(cell)
        top = self._paint_heading(painter, area, job, fields.font)
        progress: RunProgress | None = index.data(PROGRESS_ROLE)
        if job.state is JobState.RUNNING and progress is not None:
            _paint_progress(
                painter, QRect(area.left(), top, area.width(), _SMALL_LINE_PX), progress
            )
        if job.error is not None:
            painter.setPen(QColor(theme.colours().danger))
            rest = QRect(area.left(), top + 4, area.width(), area.bottom() - top)
            painter.drawText(rest, _WRAP, breakable(job.error.message))
        painter.restore()

    def _paint_heading(self, painter: QPainter, area: QRect, job: Job, font: QFont) -> int:
        """Prompt, state and detail; the next free line's top."""
        colours = theme.colours()
        word = self._jobs.state_word(job.state)
        small = _small(font)
        word_width = QFontMetrics(small).horizontalAdvance(word) + theme.SPACING_PX
        line = QRect(area.left(), area.top(), area.width(), _LINE_PX)
        painter.setFont(small)
        painter.setPen(QColor(getattr(colours, _LOOKS[job.state][1])))
        painter.drawText(line, _RIGHT, word)
        painter.setFont(font)
        painter.setPen(QColor(colours.text))
        room = line.width() - word_width
        text = QFontMetrics(font).elidedText(prompt_excerpt(job), Qt.TextElideMode.ElideRight, room)
        painter.drawText(line, _LEFT, text)
        painter.setFont(small)
        painter.setPen(QColor(colours.muted))
        line = QRect(area.left(), line.bottom() + 1, area.width(), _SMALL_LINE_PX)
        detail = QFontMetrics(small).elidedText(
            self._jobs.detail(job), Qt.TextElideMode.ElideRight, line.width()
        )
        painter.drawText(line, _LEFT, detail)
        return line.bottom() + 1


def _paint_background(painter: QPainter, cell: QRect, state: QStyle.StateFlag) -> None:
    colours = theme.colours()
    card = QRectF(cell).adjusted(2.5, 1.5, -2.5, -1.5)
    if state & QStyle.StateFlag.State_Selected:
        painter.setPen(QColor(colours.accent))
        painter.setBrush(theme.mixed(colours.accent, colours.surface, 0.16))
    elif state & QStyle.StateFlag.State_MouseOver:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.mixed(colours.text, colours.surface, 0.06))
    else:
        return
    painter.drawRoundedRect(card, theme.RADIUS_PX - 2, theme.RADIUS_PX - 2)


def _icon_area(cell: QRect) -> QRect:
    gap = theme.SPACING_PX
    return QRect(cell.left() + gap + 4, cell.top() + gap + 1, theme.ICON_PX, theme.ICON_PX)


def _paint_progress(painter: QPainter, line: QRect, progress: RunProgress) -> None:
    colours = theme.colours()
    text = progress_text(progress)
    parts = [part for part in (text.step or text.phase, text.remaining) if part]
    if progress.waiting is not None:
        # How long is told below the picture; here is little room.
        parts = [text.phase]
    painter.setPen(QColor(colours.muted))
    words = painter.fontMetrics().elidedText(
        " · ".join(parts), Qt.TextElideMode.ElideRight, line.width()
    )
    painter.drawText(line, _LEFT, words)
    bar = QRectF(line.left(), line.bottom() + 3, line.width(), BAR_HEIGHT_PX)
    radius = BAR_HEIGHT_PX / 2
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colours.border))
    painter.drawRoundedRect(bar, radius, radius)
    if text.fraction:
        painter.setBrush(QColor(colours.accent))
        bar.setWidth(bar.width() * text.fraction)
        painter.drawRoundedRect(bar, radius, radius)


def _text_area(cell: QRect) -> QRect:
    gap = theme.SPACING_PX
    left = 2 * gap + 4 + theme.ICON_PX
    return cell.adjusted(left, gap, -gap - 4, -gap)


def _text_width(width: int) -> int:
    return max(1, _text_area(QRect(0, 0, width, 100)).width())


def _small(font: QFont) -> QFont:
    small = QFont(font)
    small.setPixelSize(theme.FONT_SMALL_PX)
    return small


def _error_height(text: str, font: QFont, width: int) -> int:
    metrics = QFontMetrics(_small(font))
    return metrics.boundingRect(QRect(0, 0, width, 10_000), _WRAP, breakable(text)).height()
