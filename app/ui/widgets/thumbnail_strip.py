"""The session's pictures in one row below the large one."""

from typing import Any

from PySide6.QtCore import (
    QCoreApplication,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QRectF,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QFont, QImage, QPainter, QPainterPath, QPen, QWheelEvent
from PySide6.QtWidgets import (
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from app.ui import theme
from app.ui.models.results_model import RESULT_ROLE, ResultsModel

THUMBNAIL_PX = 80
CELL_PX = THUMBNAIL_PX + 12
_CORNER_PX = 6
_MARK_HEIGHT_PX = 20


class ThumbnailDelegate(QStyledItemDelegate):
    """Draws one thumbnail; the current one has a thick frame, an unsaved one says so."""

    def sizeHint(
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        del option, index
        return QSize(CELL_PX, CELL_PX)

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        # The stubs do not know the public fields of Qt's options.
        fields: Any = option
        state: QStyle.StateFlag = fields.state
        cell: QRect = fields.rect
        colours = theme.colours()
        image: QImage | None = index.data(Qt.ItemDataRole.DecorationRole)
        frame = _fitted(image, cell)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        outline = QPainterPath()
        outline.addRoundedRect(frame, _CORNER_PX, _CORNER_PX)
        painter.fillPath(outline, QColor(colours.raised))
        painter.save()
        painter.setClipPath(outline)
        if image is not None:
            painter.drawImage(frame, image)
        if not index.data(RESULT_ROLE).is_saved:
            _paint_unsaved_mark(painter, frame)
        painter.restore()
        if state & QStyle.StateFlag.State_Selected:
            painter.setPen(QPen(QColor(colours.accent), 3))
            outer = frame.adjusted(-2.5, -2.5, 2.5, 2.5)
            painter.drawRoundedRect(outer, _CORNER_PX + 2, _CORNER_PX + 2)
        else:
            # A white picture would have no edge on a light window, nor a black one on a dark.
            hovered = state & QStyle.StateFlag.State_MouseOver
            painter.setPen(QPen(QColor(colours.muted if hovered else colours.border), 1))
            painter.drawRoundedRect(frame.adjusted(-1, -1, 1, 1), _CORNER_PX, _CORNER_PX)
        painter.restore()


class ThumbnailStrip(QListView):
    """One row of thumbnails, newest first: arrow keys move, pulling one out gives its file."""

    def __init__(self, results: ResultsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("thumbnail_strip")
        self.setAccessibleName(self.tr("Pictures of this session, newest first"))
        self.setModel(results)
        self.setItemDelegate(ThumbnailDelegate(self))
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setUniformItemSizes(True)
        self.setSpacing(0)
        self.setMouseTracking(True)
        self.setSelectionMode(QListView.SelectionMode.SingleSelection)
        self.setDragDropMode(QListView.DragDropMode.DragOnly)
        self.setHorizontalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setFixedHeight(CELL_PX + 14)

    def current_row(self) -> int:
        """The row of the current picture; -1 when there is none."""
        return self.currentIndex().row()

    def set_current_row(self, row: int) -> None:
        """Make a picture current and bring it into view."""
        self.setCurrentIndex(self.model().index(row, 0))

    def wheelEvent(self, event: QWheelEvent) -> None:
        # There is only one direction: any wheel moves along it.
        delta = event.angleDelta()
        bar = self.horizontalScrollBar()
        moved = delta.y() if abs(delta.y()) > abs(delta.x()) else delta.x()
        bar.setValue(bar.value() - round(moved * CELL_PX / 120))
        event.accept()


def _fitted(image: QImage | None, cell: QRect) -> QRectF:
    """Where a thumbnail goes: as large as the cell allows, in its own proportions."""
    size = QSize(1, 1) if image is None else image.size()
    size = size.scaled(THUMBNAIL_PX, THUMBNAIL_PX, Qt.AspectRatioMode.KeepAspectRatio)
    frame = QRectF(0, 0, max(1, size.width()), max(1, size.height()))
    frame.moveCenter(QRectF(cell).center())
    return frame


def _paint_unsaved_mark(painter: QPainter, frame: QRectF) -> None:
    colours = theme.colours()
    mark = QRectF(frame)
    mark.setTop(frame.bottom() - _MARK_HEIGHT_PX)
    painter.fillRect(mark, QColor(colours.danger))
    font = QFont(painter.font())
    font.setPixelSize(theme.FONT_SMALL_PX)
    font.setWeight(QFont.Weight.DemiBold)
    painter.setFont(font)
    painter.setPen(QColor(colours.window))
    text = QCoreApplication.translate("ThumbnailStrip", "Not saved")
    painter.drawText(mark, Qt.AlignmentFlag.AlignCenter, text)
