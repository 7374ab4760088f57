"""Does it fit? The chip below Generate, and what opens when it is clicked."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.remedies import FittingModel
from app.ui.widgets.fit_popup import FitPopup
from app.ui.widgets.verdict_chip import VerdictChip


class VerdictRow(QWidget):
    """Keeps the chip up to date, and does what is chosen in its popup."""

    def __init__(
        self, plans: PlanModel, fitting: FittingModel, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("verdict_row")
        self._plans, self._fitting = plans, fitting
        self._chip = VerdictChip(self)
        self._popup = FitPopup(self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._chip)
        self._chip.clicked.connect(lambda: self.open_below(self._chip))
        self._popup.chosen.connect(fitting.take)
        plans.changed.connect(self._on_changed)
        fitting.found.connect(self._popup.show_fitting)
        self._on_changed(plans.state)

    @property
    def chip(self) -> VerdictChip:
        """What is clicked."""
        return self._chip

    def open_below(self, widget: QWidget) -> None:
        """Say why it fits or not, and what would, below a widget."""
        inputs = self._plans.state.inputs
        if inputs is None:
            return
        self._popup.show_state(self._plans.state)
        self._popup.open_below(widget)
        self._fitting.look(inputs)

    @Slot(object)
    def _on_changed(self, state: PlanState) -> None:
        self._chip.set_state(state)
