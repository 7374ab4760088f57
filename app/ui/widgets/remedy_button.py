"""A button that does something about a plan, with what it then needs at its right end."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from app.ui import theme
from app.ui.models.remedies import Remedy
from app.ui.widgets.verdict_icon import verdict_icon

_ICON_PX = 16
_SIDES_PX = 10


class RemedyButton(QPushButton):
    """One remedy.

    Signals:
        chosen(Remedy): It was clicked.
    """

    chosen = Signal(object)

    def __init__(self, remedy: Remedy, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._remedy = remedy
        theme.set_role(self, "remedy")
        self.setAutoDefault(False)
        self.setAccessibleName(f"{remedy.label}: {remedy.detail}")
        icon, colour = verdict_icon(remedy.plan.verdict)
        picture = QLabel(self)
        pixels = QSize(_ICON_PX, _ICON_PX)
        picture.setPixmap(theme.icon(icon, colour).pixmap(pixels, self.devicePixelRatioF()))
        label = QLabel(remedy.label, self)
        detail = QLabel(remedy.detail, self)
        theme.set_role(detail, "muted")
        row = QHBoxLayout(self)
        row.setContentsMargins(_SIDES_PX, 0, _SIDES_PX, 0)
        row.setSpacing(theme.SPACING_PX)
        row.addWidget(picture)
        row.addWidget(label)
        row.addStretch(1)
        row.addWidget(detail)
        for widget in (picture, label, detail):
            widget.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._row = row
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self.clicked.connect(lambda: self.chosen.emit(self._remedy))

    def sizeHint(self) -> QSize:
        inside = self._row.sizeHint()
        return QSize(inside.width(), max(inside.height() + 12, 34))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()
