"""How much memory is left to other programs."""

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from app.core.units import GIB, MIB
from app.ui import theme
from app.ui.models.memory_choices import as_set

STEP_BYTES = GIB // 4
STEPS_WITHOUT_DEVICE = 16
PAGE_STEPS = 4


class CalmSlider(QSlider):
    """A slider that turns with the wheel only while it has the focus."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class HeadroomSlider(QWidget):
    """A slider in quarters of a GB, with its value beside it.

    Signals:
        headroom_chosen(object): Bytes (int), while it is pulled as well.
    """

    # As an object: a C++ int would not hold it.
    headroom_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("headroom")
        self._slider = CalmSlider(Qt.Orientation.Horizontal, self)
        self._slider.setObjectName("headroom_slider")
        self._slider.setPageStep(PAGE_STEPS)
        self._slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._slider.setAccessibleName(self.tr("Memory left to other programs"))
        self._value = QLabel(self)
        self._value.setObjectName("headroom_value")
        self._value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._value.setMinimumWidth(self._value.fontMetrics().horizontalAdvance("00.00 GB"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.SPACING_PX)
        row.addWidget(self._slider, 1)
        row.addWidget(self._value)
        self._slider.setRange(0, STEPS_WITHOUT_DEVICE)
        self._slider.valueChanged.connect(self._on_value_changed)
        self.setFocusProxy(self._slider)
        self.set_kind(of_ram=False)
        self._say(0)

    def set_kind(self, *, of_ram: bool) -> None:
        """Say whose memory it is about."""
        self._slider.setToolTip(
            self.tr(
                "Leaves this much of the RAM to other programs, so that the computer does not "
                "have to swap. Plans are made for the rest."
            )
            if of_ram
            else self.tr(
                "Leaves this much of the GPU's memory to the desktop, a browser or a game. More of "
                "it means slower pictures sooner, never fewer details."
            )
        )

    def set_most(self, most_bytes: int) -> None:
        """So much can be left to others."""
        steps = max(1, most_bytes // STEP_BYTES)
        if steps != self._slider.maximum():
            with QSignalBlocker(self._slider):
                self._slider.setRange(0, steps)

    def set_headroom(self, headroom_bytes: int) -> None:
        """Show this; a value between the steps is said as it is."""
        with QSignalBlocker(self._slider):
            self._slider.setValue(round(headroom_bytes / STEP_BYTES))
        self._say(headroom_bytes)

    def _on_value_changed(self, steps: int) -> None:
        self._say(steps * STEP_BYTES)
        self.headroom_chosen.emit(steps * STEP_BYTES)

    def _say(self, headroom_bytes: int) -> None:
        text = as_set(headroom_bytes)
        if 0 < headroom_bytes < STEP_BYTES:
            text = self.tr("{size} MB").format(size=round(headroom_bytes / MIB))
        self._value.setText(text)
        self._slider.setAccessibleDescription(text)
