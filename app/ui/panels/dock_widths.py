"""How wide the parts at the sides are: as wide as the window allows, until the user pulls them."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow

NARROW_PX = 340
"""Of each side on a window of the first size, 1280 px."""
FORM_SHARE, FORM_MOST_PX = 0.19, 440
"""A prompt in longer lines than that is hard to read."""
SIDE_SHARE, SIDE_MOST_PX = 0.26, 640
"""From 500 px on, names and values stand at the curves of the memory graph."""
SAME_PX = 8
"""Qt gives a pixel or two to the separators."""


def form_width_px(window_px: int) -> int:
    """Of the form, in a window of this width."""
    return min(FORM_MOST_PX, max(NARROW_PX, round(window_px * FORM_SHARE)))


def side_width_px(window_px: int) -> int:
    """Of memory and queue, in a window of this width."""
    return min(SIDE_MOST_PX, max(NARROW_PX, round(window_px * SIDE_SHARE)))


class DockWidths(QObject):
    """Lets the sides grow with the window, unless the user has given them another width."""

    def __init__(self, window: QMainWindow, form: QDockWidget, sides: list[QDockWidget]) -> None:
        """Look after these.

        Args:
            window: Around them.
            form: On the left.
            sides: Below each other on the right, at first.
        """
        super().__init__(window)
        self._window, self._form, self._sides = window, form, sides
        self._window_px = window.width()
        # A window that is made narrower squeezes its docks before anyone is told: what counts is
        # how wide they were until then.
        self._kept_px: dict[str, int] = {}
        for dock in (form, *sides):
            dock.installEventFilter(self)
        window.installEventFilter(self)

    def arrange(self) -> None:
        """Give them the widths of a new window."""
        self._window_px = self._window.width()
        self._give({one: wanted(self._window_px) for one, wanted in self._at_the_sides()})

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            if watched is self._window:
                self._follow()
            elif isinstance(watched, QDockWidget) and self._is_chosen():
                self._kept_px[watched.objectName()] = watched.width()
        return False

    def _is_chosen(self) -> bool:
        """Whether docks are as wide as somebody wants them, and not as wide as there is room."""
        centre = self._window.centralWidget()
        if centre is None or self._window.width() != self._window_px:
            return False
        return centre.width() - centre.minimumSizeHint().width() > SAME_PX

    def _follow(self) -> None:
        """What was as wide as it should be in the window as it was stays so."""
        before_px, self._window_px = self._window_px, self._window.width()
        wider: dict[QDockWidget, int] = {}
        for dock, wanted in self._at_the_sides():
            kept_px = self._kept_px.get(dock.objectName(), dock.width())
            if abs(kept_px - wanted(before_px)) <= SAME_PX:
                wider[dock] = wanted(self._window_px)
        self._give(wider)

    def _give(self, widths_px: dict[QDockWidget, int]) -> None:
        docks, widths = list(widths_px), list(widths_px.values())
        self._kept_px |= {dock.objectName(): width for dock, width in widths_px.items()}
        self._window.resizeDocks(docks, widths, Qt.Orientation.Horizontal)

    def _at_the_sides(self) -> list[tuple[QDockWidget, Callable[[int], int]]]:
        """Of each side one part, as the others have its width too."""
        found: list[tuple[QDockWidget, Callable[[int], int]]] = []
        for docks, wanted in (([self._form], form_width_px), (self._sides, side_width_px)):
            dock = next(filter(self._is_at_the_side, docks), None)
            if dock is not None:
                found.append((dock, wanted))
        return found

    def _is_at_the_side(self, dock: QDockWidget) -> bool:
        area = self._window.dockWidgetArea(dock)
        sides = Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
        return area in sides and not dock.isFloating() and not dock.isHidden()
