"""A part of the window that can be moved, floated and closed, with a title of our own."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.ui import theme


class Dock(QDockWidget):
    """Keeps its content off the window's edge: Qt lays docks right against it."""

    def __init__(
        self, name: str, title: str, parent: QWidget | None = None, *, fixed: bool = False
    ) -> None:
        """Make an empty one.

        Args:
            name: Object name; the remembered layout goes by it.
            title: For people.
            parent: The window.
            fixed: On the left edge, always there, and without a title.
        """
        super().__init__(title, parent)
        self.setObjectName(name)
        self.setAccessibleName(title)
        self._is_fixed = fixed
        self._around: QWidget | None = None
        if fixed:
            self.setFeatures(QDockWidget.DockWidgetFeature.NoDockWidgetFeatures)
        self.setTitleBarWidget(QWidget(self) if fixed else DockTitle(self))

    def set_content(self, content: QWidget) -> None:
        """Show this instead of what was there."""
        gap = theme.SPACING_PX
        around = QWidget(self)
        column = QVBoxLayout(around)
        left, right = (gap, 0) if self._is_fixed else (0, gap)
        column.setContentsMargins(left, 0, right, 0)
        column.addWidget(content)
        self.setWidget(around)
        if self._around is not None:
            self._around.deleteLater()
        self._around = around


class DockTitle(QWidget):
    """Name, float and close; dragging it moves the part."""

    def __init__(self, dock: QDockWidget) -> None:
        super().__init__(dock)
        self.setObjectName(f"{dock.objectName()}_title")
        title = dock.windowTitle()
        label = QLabel(title, self)
        label.setObjectName(f"{dock.objectName()}_name")
        theme.set_role(label, "heading")
        float_button = self._button(
            f"{dock.objectName()}_float",
            "float",
            self.tr("Float {part}, or put it back").format(part=title),
            self.tr("Float or put back"),
        )
        float_button.clicked.connect(lambda: dock.setFloating(not dock.isFloating()))
        close = self._button(
            f"{dock.objectName()}_close",
            "close",
            self.tr("Close {part}").format(part=title),
            self.tr("Close; the View menu brings it back"),
        )
        close.clicked.connect(dock.close)
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 0, theme.SPACING_PX, 2)
        row.setSpacing(2)
        row.addWidget(label)
        row.addStretch(1)
        row.addWidget(float_button)
        row.addWidget(close)

    def _button(self, name: str, icon: str, text: str, tip: str) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName(name)
        button.setIcon(theme.icon(icon, "muted"))
        button.setIconSize(QSize(13, 13))
        button.setAccessibleName(text)
        button.setToolTip(tip)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        theme.set_role(button, "small")
        return button
