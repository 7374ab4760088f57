"""A row of widgets that does without some of them where there is no room for all."""

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QEvent, QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget


class NarrowingRow(QWidget):
    """Hides what can be spared rather than widen what is around it, which would make it jump.

    Labels without a text take no room.
    """

    def __init__(self, name: str, parent: QWidget | None = None, *, spacing_px: int) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(spacing_px)
        self._all: list[QWidget] = []
        self._spare: Sequence[QWidget] = ()

    def add(self, *widgets: QWidget) -> None:
        """Put these at the right end."""
        for widget in widgets:
            self._row.addWidget(widget)
            self._all.append(widget)

    def add_stretch(self) -> None:
        """What comes now stands at the right edge."""
        self._row.addStretch(1)

    def set_spare(self, widgets: Iterable[QWidget]) -> None:
        """These can go; the first of them goes first."""
        self._spare = tuple(widgets)
        self.refresh()

    def refresh(self) -> None:
        """Choose anew what is shown; after a text of a hidden label has changed."""
        shown = [one for one in self._all if _has_content(one)]
        for spare in self._spare:
            if self._width_of(shown) > self.width() and spare in shown:
                shown.remove(spare)
        for one in self._spare:
            one.setVisible(one in shown)
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        kept = [one for one in self._all if one not in self._spare and _has_content(one)]
        return QSize(self._width_of(kept), super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        shown = [one for one in self._all if _has_content(one)]
        return QSize(self._width_of(shown), super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.refresh()

    def event(self, event: QEvent) -> bool:
        done = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.refresh()
        return done

    def _width_of(self, widgets: Sequence[QWidget]) -> int:
        wide = sum(max(one.minimumWidth(), one.sizeHint().width()) for one in widgets)
        return wide + self._row.spacing() * max(0, len(widgets) - 1)


def _has_content(widget: QWidget) -> bool:
    return not isinstance(widget, QLabel) or bool(widget.text())
