"""Number editors that a passing mouse wheel does not change."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QSpinBox, QWidget

NARROWEST_PX = 76
"""Room for four digits; Qt would keep room for the longest number there is."""


def _calm(box: QAbstractSpinBox) -> None:
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    box.setKeyboardTracking(False)
    box.setAccelerated(True)
    box.setMinimumWidth(NARROWEST_PX)
    # The style sheet's padding does not reach the editor inside.
    box.lineEdit().setTextMargins(9, 0, 0, 0)


class CalmSpinBox(QSpinBox):
    """A spin box that turns with the wheel only while it has the focus.

    Else scrolling the panel would silently change the number under the mouse.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _calm(self)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class CalmDoubleSpinBox(QDoubleSpinBox):
    """As CalmSpinBox, for numbers with decimals: shows as many as the number has, at least one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _calm(self)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def textFromValue(self, val: float) -> str:
        locale = self.locale()
        text = locale.toString(val, "f", self.decimals())
        whole, point, decimals = text.partition(locale.decimalPoint())
        zero = locale.zeroDigit()
        return f"{whole}{point}{decimals.rstrip(zero) or zero}" if point else text
