"""What the user leaves to other programs goes to the running job, too, once the slider rests."""

from PySide6.QtCore import QObject, QTimer, Slot

from app.core.policy import Budget
from app.ui.models.engine_model import EngineModel
from app.ui.models.policy_model import PolicyModel

SETTLE_MS = 300
"""Without a change for so long, a slider is no longer being pulled."""


class LiveBudget(QObject):
    """Forwards headroom, limit and memory mode to the job that runs; nothing else of the policy."""

    def __init__(
        self, policy: PolicyModel, engine: EngineModel, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._policy = policy
        self._engine = engine
        self._device = policy.device
        self._known = Budget.of(policy.policy)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._forward)
        policy.changed.connect(self._on_policy_changed)

    @Slot()
    def _on_policy_changed(self) -> None:
        budget = Budget.of(self._policy.policy)
        if self._policy.device != self._device:
            # Another GPU's choices are not for the one that the job runs on.
            self._device = self._policy.device
            self._timer.stop()
        elif budget != self._known and self._engine.current_job is not None:
            self._timer.start()
        self._known = budget

    @Slot()
    def _forward(self) -> None:
        self._engine.change_budget(self._known)
