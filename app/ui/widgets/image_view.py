"""The picture: fitted or zoomed, panned, live while it is made, and droppable both ways."""

from pathlib import Path

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QWidget

from app.ui import theme
from app.ui.images import Picture, enlarged_smoothly
from app.ui.widgets.empty_state import paint_empty_state
from app.ui.widgets.view_geometry import ViewGeometry

WHEEL_STEP = 120
"""Angle of one notch of a mouse wheel, in Qt's eighths of a degree."""
PAN_STEP_PX = 48
_PAN_KEYS = {
    Qt.Key.Key_Left: QPointF(PAN_STEP_PX, 0),
    Qt.Key.Key_Right: QPointF(-PAN_STEP_PX, 0),
    Qt.Key.Key_Up: QPointF(0, PAN_STEP_PX),
    Qt.Key.Key_Down: QPointF(0, -PAN_STEP_PX),
}

_KEYBOARD_REASONS = (
    Qt.FocusReason.TabFocusReason,
    Qt.FocusReason.BacktabFocusReason,
    Qt.FocusReason.ShortcutFocusReason,
)


class ImageView(QWidget):
    """Shows a finished picture or the preview of a running one.

    Keys: + and - zoom, 0 fits, 1 is 100 %, arrows move a picture that is larger than the view.

    Signals:
        zoom_changed: float, device pixels per picture pixel; None when there is no picture.
        drag_wanted: The user pulls the picture out of the view.
        file_dropped: Path of the first local file dropped on the view.
    """

    zoom_changed = Signal(object)
    drag_wanted = Signal()
    file_dropped = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._geometry = ViewGeometry()
        self._picture: Picture | None = None
        self._preview = QImage()
        self._title = ""
        self._hint = ""
        self._pressed_at: QPointF | None = None
        self._pans = False
        self._drop_is_near = False
        self._shows_focus = False
        self._told_scale: float | None = 0.0
        self.setObjectName("image_view")
        self.setAccessibleName(self.tr("Picture"))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(160, 160)
        self.setAcceptDrops(True)

    def sizeHint(self) -> QSize:
        return QSize(640, 640)

    # What is shown.

    @property
    def picture(self) -> Picture | None:
        """The finished picture shown, if any."""
        return self._picture

    @property
    def shows_preview(self) -> bool:
        """Whether a preview is shown."""
        return not self._preview.isNull()

    @property
    def is_empty(self) -> bool:
        """Whether only the hint is shown."""
        return self._picture is None and not self.shows_preview

    @property
    def scale(self) -> float:
        """Device pixels per picture pixel."""
        return self._geometry.scale

    @property
    def fits(self) -> bool:
        """Whether the picture follows the view's size."""
        return self._geometry.fits

    def show_picture(self, picture: Picture) -> None:
        """Show a finished picture instead of whatever is shown."""
        self._picture = picture
        self._preview = QImage()
        self._geometry.set_picture(picture.image.size())
        self._refresh()

    def show_preview(self, image: QImage, size: QSize) -> None:
        """Show a small image smoothly as the picture of this size that it will become."""
        if image.isNull():
            return
        self._preview = enlarged_smoothly(image)
        self._geometry.set_picture(size)
        self._refresh()

    def end_preview(self) -> None:
        """Show the last finished picture again."""
        if not self.shows_preview:
            return
        self._preview = QImage()
        if self._picture is not None:
            self._geometry.set_picture(self._picture.image.size())
        self._refresh()

    def clear(self, title: str, hint: str) -> None:
        """Show no picture but a sentence and a hint."""
        self._picture = None
        self._preview = QImage()
        self._title, self._hint = title, hint
        self._refresh()

    # Zoom.

    def fit(self) -> None:
        """Show all of the picture."""
        self._geometry.fit()
        self._refresh()

    def show_actual_size(self) -> None:
        """One pixel of the picture on one of the screen."""
        self._geometry.zoom_to(1.0)
        self._refresh()

    def zoom_by(self, steps: float, anchor: QPointF | None = None) -> None:
        """Zoom in by so many steps, out when negative, around a point of the view."""
        if not self.is_empty:
            self._geometry.zoom_by(steps, anchor)
            self._refresh()

    def toggle_fit(self, anchor: QPointF) -> None:
        """100 % around a point when fitted, else fit."""
        if self._geometry.fits:
            self._geometry.zoom_to(1.0, anchor)
        else:
            self._geometry.fit()
        self._refresh()

    def picture_point(self, position: QPointF) -> QPointF:
        """The picture's pixel at a position of the view."""
        return self._geometry.picture_point(position)

    def _refresh(self) -> None:
        self._geometry.set_view(self.size(), self.devicePixelRatioF())
        scale = None if self.is_empty else self._geometry.scale
        if self._told_scale != scale:
            self._told_scale = scale
            self.zoom_changed.emit(scale)
        self._show_cursor()
        self.update()

    def _show_cursor(self) -> None:
        if self._pans:
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif not self.is_empty and self._geometry.can_pan:
            self.setCursor(Qt.CursorShape.OpenHandCursor)
        else:
            self.unsetCursor()

    # Painting.

    def paintEvent(self, event: QPaintEvent) -> None:
        del event
        colours = theme.colours()
        area = QRectF(self.rect())
        matte = QPainterPath()
        matte.addRoundedRect(area, theme.RADIUS_PX, theme.RADIUS_PX)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillPath(matte, QColor(colours.window))
        painter.save()
        painter.setClipPath(matte)
        if self.is_empty:
            paint_empty_state(painter, area, self._title, self._hint)
        else:
            self._paint_image(painter)
        painter.restore()
        if self._drop_is_near or self._shows_focus:
            painter.setPen(QPen(QColor(colours.accent), 2))
            painter.drawRoundedRect(
                area.adjusted(1, 1, -1, -1), theme.RADIUS_PX - 1, theme.RADIUS_PX - 1
            )
        painter.end()

    def _paint_image(self, painter: QPainter) -> None:
        target = self._geometry.target()
        if self.shows_preview:
            image, smooth = self._preview, True
        elif self._picture is not None:
            image = self._picture.level_for(self._geometry.scale)
            smooth = not self._geometry.is_crisp
        else:
            return
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        # Only what is seen: a picture zoomed to 3200 % is larger than any paint device.
        seen = target.intersected(QRectF(self.rect()))
        source = QRectF(
            (seen.x() - target.x()) * image.width() / target.width(),
            (seen.y() - target.y()) * image.height() / target.height(),
            seen.width() * image.width() / target.width(),
            seen.height() * image.height() / target.height(),
        )
        painter.drawImage(seen, image, source)

    # Input.

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._refresh()

    def event(self, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.DevicePixelRatioChange):
            self._refresh()
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        notches = event.angleDelta().y() / WHEEL_STEP
        if notches:
            self.zoom_by(notches, event.position())
        event.accept()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and not self.is_empty:
            self.toggle_fit(event.position())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        pans = self._geometry.can_pan and not self.is_empty
        if event.button() == Qt.MouseButton.LeftButton or (
            event.button() == Qt.MouseButton.MiddleButton and pans
        ):
            self._pressed_at = event.position()
            self._pans = pans
            self._show_cursor()
        else:
            super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._pressed_at is None:
            return
        moved = event.position() - self._pressed_at
        if self._pans:
            self._pressed_at = event.position()
            self._geometry.pan(moved)
            self._refresh()
        elif moved.manhattanLength() >= QApplication.startDragDistance():
            self._pressed_at = None
            if self._picture is not None and not self.shows_preview:
                self.drag_wanted.emit()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pressed_at = None
        self._pans = False
        self._show_cursor()
        super().mouseReleaseEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom_by(1)
        elif key == Qt.Key.Key_Minus:
            self.zoom_by(-1)
        elif key == Qt.Key.Key_0:
            self.fit()
        elif key == Qt.Key.Key_1:
            self.show_actual_size()
        elif key in _PAN_KEYS and self._geometry.can_pan and not self.is_empty:
            self._geometry.pan(_PAN_KEYS[key])
            self._refresh()
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        # Who clicks knows where he is; who tabs has to see it.
        self._shows_focus = event.reason() in _KEYBOARD_REASONS
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._shows_focus = False
        self.update()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        # A picture pulled out of this window is not meant to be dropped on it again.
        if not isinstance(event.source(), QWidget) and _dropped_file(event) is not None:
            event.acceptProposedAction()
            self._near(near=True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        super().dragLeaveEvent(event)
        self._near(near=False)

    def dropEvent(self, event: QDropEvent) -> None:
        self._near(near=False)
        path = _dropped_file(event)
        if path is not None:
            event.acceptProposedAction()
            self.file_dropped.emit(path)

    def _near(self, *, near: bool) -> None:
        self._drop_is_near = near
        self.update()


def _dropped_file(event: QDropEvent) -> Path | None:
    """The first local file; a folder is not for the picture, and what is around it may want it."""
    for url in event.mimeData().urls():
        path = Path(url.toLocalFile())
        if url.isLocalFile() and not path.is_dir():
            return path
    return None
