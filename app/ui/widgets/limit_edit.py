"""The most of a GPU that may ever be used, in GB, or no limit."""

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QWidget

from app.core.units import GIB
from app.ui.widgets.spin import CalmDoubleSpinBox

STEP_GB = 0.5
MOST_GB = 1024.0
"""While no device is known."""


class LimitEdit(CalmDoubleSpinBox):
    """A number of GB; its lowest value is no limit.

    Signals:
        limit_chosen(object): Bytes (int), or None for no limit.
    """

    # As an object: a C++ int would not hold it.
    limit_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("memory_limit")
        self.setRange(0.0, MOST_GB)
        self.setDecimals(2)
        self.setSingleStep(STEP_GB)
        self.setSuffix(self.tr(" GB"))
        self.setSpecialValueText(self.tr("No limit"))
        self.setToolTip(
            self.tr(
                "Headroom never uses more than this of the memory, however much is free; "
                "0 is no limit"
            )
        )
        self._limit_bytes: int | None = None
        self.valueChanged.connect(self._on_value_changed)

    def set_total(self, total_bytes: int) -> None:
        """The device has this much memory; a limit from elsewhere may be higher."""
        limit_gb = 0.0 if self._limit_bytes is None else self._limit_bytes / GIB
        with QSignalBlocker(self):
            self.setMaximum(max(1.0, total_bytes / GIB, limit_gb))

    def set_limit(self, limit_bytes: int | None) -> None:
        """Show this."""
        self._limit_bytes = limit_bytes
        limit_gb = 0.0 if limit_bytes is None else limit_bytes / GIB
        with QSignalBlocker(self):
            self.setMaximum(max(self.maximum(), limit_gb))
            # The lowest number that is not "no limit" for what is below it.
            self.setValue(limit_gb and max(limit_gb, 10.0 ** -self.decimals()))

    def _on_value_changed(self, value_gb: float) -> None:
        self._limit_bytes = round(value_gb * GIB) or None
        self.limit_chosen.emit(self._limit_bytes)
