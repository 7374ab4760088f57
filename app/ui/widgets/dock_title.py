"""The title of a part of the window that can be moved, floated and closed."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QToolButton, QWidget

from app.ui import theme


class DockTitle(QWidget):
    """Name, float and close; dragging it moves the part."""

    def __init__(self, dock: QDockWidget) -> None:
        super().__init__(dock)
        self.setObjectName(f"{dock.objectName()}_title")
        label = QLabel(dock.windowTitle(), self)
        label.setObjectName(f"{dock.objectName()}_name")
        theme.set_role(label, "heading")
        float_button = self._button(
            f"{dock.objectName()}_float", "float", self.tr("Float or put back")
        )
        float_button.clicked.connect(lambda: dock.setFloating(not dock.isFloating()))
        close = self._button(
            f"{dock.objectName()}_close",
            "close",
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

    def _button(self, name: str, icon: str, text: str) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName(name)
        button.setIcon(theme.icon(icon, "muted"))
        button.setIconSize(QSize(13, 13))
        button.setAccessibleName(text)
        button.setToolTip(text)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        theme.set_role(button, "small")
        return button
