"""The buttons above the picture, fewer of them where the window is narrow."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QLabel, QToolButton, QWidget

from app.ui import theme
from app.ui.panels.picture_actions import PictureActions
from app.ui.widgets.narrowing_row import NarrowingRow


class PictureToolbar(NarrowingRow):
    """Zoom on the left, what is done with the picture on the right.

    Where there is no room for all of them, those go that are least missed: their commands are in
    the View menu and in the picture's context menu as well.
    """

    def __init__(self, commands: PictureActions, parent: QWidget | None = None) -> None:
        super().__init__("picture_toolbar", parent, spacing_px=theme.SPACING_PX // 2)
        self._zoom = QLabel(self)
        self._zoom.setObjectName("zoom_label")
        self._zoom.setToolTip(self.tr("Zoom: pixels of the screen per pixel of the picture"))
        self._zoom.setAccessibleDescription(self._zoom.toolTip())
        self._zoom.setMinimumWidth(self._zoom.fontMetrics().horizontalAdvance("3200 % "))
        theme.set_role(self._zoom, "muted")
        zooming = {action: self._button(action) for action in commands.zooming}
        shown = [action for action in commands.on_picture if action is not commands.copy_prompt]
        doing = {action: self._button(action) for action in (commands.follow, *shown)}
        self.add(*zooming.values(), self._zoom)
        self.add_stretch()
        self.add(*doing.values())
        self.set_spare(
            (
                self._zoom,
                zooming[commands.zoom_out],
                zooming[commands.zoom_in],
                doing[commands.report],
            )
        )

    def set_zoom(self, text: str) -> None:
        """Say how large the picture is shown."""
        self._zoom.setText(text)
        self.refresh()

    def _button(self, action: QAction) -> QToolButton:
        button = QToolButton(self)
        button.setDefaultAction(action)
        button.setObjectName(action.objectName().replace("action_", "button_"))
        button.setAccessibleName(action.text().replace("&", ""))
        button.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        theme.set_role(button, "flat")
        return button
