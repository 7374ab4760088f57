"""Puts the window where it was, and keeps where it is."""

from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDockWidget, QMainWindow

from app.ui.models.layout_file import LAYOUT_VERSION, Layout, LayoutFile

DEFAULT_SIZE = QSize(1280, 800)
TITLE_BAR_PX = 40
"""What the system puts around a window is only known once it is shown."""


LOW_PX = 700
"""Lower than that, such as 1080 pixels at one and a half of their size, both have little room."""


def first_size() -> QSize:
    """Of a window that was never arranged: all of it is on the screen."""
    space = QGuiApplication.primaryScreen().availableSize()
    return DEFAULT_SIZE.boundedTo(QSize(space.width(), space.height() - TITLE_BAR_PX))


def arrange_sides(window: QMainWindow, memory: QDockWidget, queue: QDockWidget) -> None:
    """Put memory above the queue; on a low screen, one behind the other."""
    if QGuiApplication.primaryScreen().availableSize().height() < LOW_PX:
        window.tabifyDockWidget(memory, queue)
        memory.raise_()
    else:
        window.resizeDocks([memory, queue], [520, 210], Qt.Orientation.Vertical)


def restore_layout(window: QMainWindow, file: LayoutFile) -> None:
    """Arrange the window as it was; leave it as it is where nothing was kept."""
    layout = file.load()
    if layout is None:
        return
    # Qt moves a window that would be on a screen that is gone.
    window.restoreGeometry(QByteArray(layout.geometry_bytes()))
    window.restoreState(QByteArray(layout.state_bytes()), LAYOUT_VERSION)
    is_seen = any(
        screen.availableGeometry().intersects(window.frameGeometry())
        for screen in QGuiApplication.screens()
    )
    # Also one that was arranged on a larger screen, and is not as large as screens are by itself.
    space = QGuiApplication.primaryScreen().availableVirtualGeometry().size()
    filling = Qt.WindowState.WindowMaximized | Qt.WindowState.WindowFullScreen
    is_too_large = window.size() != window.size().boundedTo(space)
    if not is_seen or (is_too_large and not window.windowState() & filling):
        centre_on_screen(window)


def save_layout(window: QMainWindow, file: LayoutFile) -> None:
    """Keep the window's place, size and arrangement."""
    file.save(
        Layout.of_bytes(
            geometry=bytes(window.saveGeometry().data()),
            state=bytes(window.saveState(LAYOUT_VERSION).data()),
        )
    )


def centre_on_screen(window: QMainWindow) -> None:
    """Put the window in the middle of the first screen, no larger than that."""
    space = QGuiApplication.primaryScreen().availableGeometry()
    window.resize(window.size().boundedTo(space.size()))
    frame = window.frameGeometry()
    frame.moveCenter(space.center())
    window.move(frame.topLeft())
