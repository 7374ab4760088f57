"""What a value costs, in small beside its label."""

from PySide6.QtWidgets import QLabel, QWidget

from app.ui import theme
from app.ui.models.plan_inputs import Cost
from app.ui.models.plan_words import cost_text


class CostBadge(QLabel):
    """Shows "+1.6 GB, +4 s"; hidden where nothing is to be said."""

    def __init__(self, name: str, *, explained: str, parent: QWidget | None = None) -> None:
        """Show nothing yet.

        Args:
            name: Of the object.
            explained: What the cost is counted against, in a sentence.
            parent: Owner.
        """
        super().__init__(parent)
        self.setObjectName(name)
        self._explained = explained
        theme.set_role(self, "badge")
        self.setToolTip(explained)
        self.hide()

    def set_cost(self, cost: Cost | None) -> None:
        """Show a cost; None for none."""
        text = "" if cost is None else cost_text(cost)
        if text != self.text():
            self.setText(text)
            self.setAccessibleName(text)
            self.setAccessibleDescription(self._explained)
        self.setVisible(bool(text))
