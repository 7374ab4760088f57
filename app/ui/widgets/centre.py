"""The middle of a window, which keeps its content off the edge as docks keep theirs."""

from PySide6.QtGui import QMoveEvent, QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.ui import theme


class Centre(QWidget):
    """A column of widgets, with a gap on the right where no dock stands between it and the edge."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """Make an empty one."""
        super().__init__(parent)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(theme.SPACING_PX)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._keep_off_edge()

    def moveEvent(self, event: QMoveEvent) -> None:
        super().moveEvent(event)
        self._keep_off_edge()

    def _keep_off_edge(self) -> None:
        at_edge = self.geometry().right() >= self.window().rect().right()
        self.column.setContentsMargins(0, 0, theme.SPACING_PX if at_edge else 0, 0)
