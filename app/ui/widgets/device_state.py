"""How warm and busy the GPU is, as one short text that does not jump."""

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QLabel, QWidget

from app.core.device import DeviceSnapshot
from app.ui import theme

_SEPARATOR = "  ·  "


class DeviceState(QLabel):
    """Temperature, load and power; hidden where the driver tells none of them.

    Attributes:
        wanted_px: Width that the longest text would take.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("memory_device_state")
        theme.set_role(self, "muted")
        font = QFont(self.font())
        font.setFeature(QFont.Tag("tnum"), 1)
        self.setFont(font)
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.hide()

    @property
    def wanted_px(self) -> int:
        longest = _SEPARATOR.join(("100 °C", "100 %", "1000 W"))
        return self.fontMetrics().horizontalAdvance(longest)

    def show_state(self, device: DeviceSnapshot | None, *, has_room: bool) -> None:
        """Say what a GPU tells.

        Args:
            device: As it was seen last; None without one.
            has_room: Whether there is a place for it.
        """
        parts = () if device is None else _parts(device)
        translate = QCoreApplication.translate
        self.setText(_SEPARATOR.join(parts))
        self.setToolTip(translate("DeviceState", "The GPU's temperature, load and power"))
        self.setAccessibleName(
            translate("DeviceState", "GPU: {state}").format(state=", ".join(parts))
        )
        self.setVisible(bool(parts) and has_room)


def _parts(device: DeviceSnapshot) -> tuple[str, ...]:
    values = (
        (device.temperature_c, "{value:.0f} °C"),
        (device.utilization_percent, "{value:.0f} %"),
        (device.power_w, "{value:.0f} W"),
    )
    return tuple(text.format(value=value) for value, text in values if value is not None)
