"""A sentence above a list or picture, with buttons for what can be done about it."""

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from app.ui import theme
from app.ui.widgets.wrapping_label import WrappingLabel

MessageKind = Literal["problem", "notice", "info"]
_LOOKS: dict[MessageKind, tuple[str, str, str]] = {
    # Style role, icon, the icon's colour.
    "problem": ("banner", "error", "danger"),
    "notice": ("banner-notice", "warning", "warning"),
    "info": ("card", "info", "accent"),
}


class MessageBar(QFrame):
    """Hidden until there is something to say; told to screen readers when it appears."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._kind: MessageKind = "info"
        self._icon = QLabel(self)
        self._text = WrappingLabel(self)
        self._text.setObjectName(f"{name}_text")
        self._text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._buttons: list[QToolButton] = []
        self._close = QToolButton(self)
        self._close.setObjectName(f"{name}_close")
        self._close.setIcon(theme.icon("close", "muted"))
        self._close.setAccessibleName(self.tr("Close this message"))
        self._close.setToolTip(self.tr("Close this message"))
        self._close.clicked.connect(self.hide)
        theme.set_role(self._close, "flat")
        self._row = QHBoxLayout(self)
        gap = theme.SPACING_PX
        self._row.setContentsMargins(gap + gap // 2, gap // 2, gap // 2, gap // 2)
        self._row.setSpacing(gap)
        self._row.addWidget(self._icon)
        self._row.addWidget(self._text, 1)
        self._row.addWidget(self._close)
        self._paint_icon()
        self.hide()

    @property
    def text(self) -> str:
        """The sentence shown, or shown last."""
        return self._text.text()

    def hide_text(self, text: str) -> None:
        """Hide a sentence that is old news, if it is this one that is shown."""
        if self.text == text:
            self.hide()

    @property
    def kind(self) -> MessageKind:
        """How grave it is."""
        return self._kind

    def show_message(
        self, text: str, *, kind: MessageKind = "info", actions: Sequence[QAction] = ()
    ) -> None:
        """Say a sentence instead of the last one, with a button for each action."""
        self._kind = kind
        self._text.setText(text)
        self.setAccessibleName(text)
        theme.set_role(self, _LOOKS[kind][0])
        self._paint_icon()
        self._set_actions(actions)
        self.show()
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.PaletteChange:
            self._paint_icon()
        return super().event(event)

    def _set_actions(self, actions: Sequence[QAction]) -> None:
        for button in self._buttons:
            self._row.removeWidget(button)
            button.hide()
            # It lives until the event loop turns; until then it must not pass for its successor.
            button.setObjectName("")
            button.deleteLater()
        self._buttons = []
        for action in actions:
            button = QToolButton(self)
            button.setDefaultAction(action)
            name = action.objectName().removeprefix("action_")
            button.setObjectName(f"{self.objectName()}_{name}")
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
            button.setAccessibleName(action.text().replace("&", ""))
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self._row.insertWidget(self._row.count() - 1, button)
            button.show()
            self._buttons.append(button)

    def _paint_icon(self) -> None:
        _, name, colour = _LOOKS[self._kind]
        size = QSize(theme.ICON_PX, theme.ICON_PX)
        self._icon.setPixmap(theme.icon(name, colour).pixmap(size, self.devicePixelRatioF()))
