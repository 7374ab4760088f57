"""The verdict beside Generate: fits, fits with streaming, fits smaller, does not fit."""

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QPushButton, QSizePolicy, QWidget

from app.core.plan import Verdict
from app.ui import theme
from app.ui.models.plan_model import PlanState
from app.ui.models.plan_words import chip_texts, spoken, time_words, waits_words
from app.ui.widgets.verdict_icon import verdict_icon

_ICON_PX = 16
_SIDES_PX = 44
"""What icon, gaps and padding take of the width."""


class VerdictChip(QPushButton):
    """Says in one line whether it fits; clicked, it gives reasons and remedies."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("verdict_chip")
        theme.set_role(self, "verdict")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setIconSize(QSize(_ICON_PX, _ICON_PX))
        self._lines: tuple[str, ...] = ("",)
        self._verdict: Verdict | None = None
        self.set_state(PlanState())

    @property
    def line(self) -> str:
        """The whole text, also where there is no room for it."""
        return self._lines[0]

    @property
    def verdict(self) -> Verdict | None:
        """The verdict shown; None while there is none."""
        return self._verdict

    def set_state(self, state: PlanState) -> None:
        """Show a plan's verdict, or why there is none."""
        plan = state.plan
        self._verdict = None if plan is None else plan.verdict
        self._lines = (state.why,) if plan is None else chip_texts(plan)
        self.setEnabled(plan is not None)
        if plan is None:
            self.setAccessibleName(state.why or self.tr("Does it fit?"))
            self.setToolTip(state.why)
        else:
            self.setAccessibleName(self.tr("Does it fit? {answer}").format(answer=spoken(plan)))
            lines = [self.line, *plan.reasons, waits_words() if state.waits else time_words(plan)]
            lines.append(self.tr("Click for details and what can be done."))
            self.setToolTip("\n".join(line for line in lines if line))
        self._show()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._show()

    def _show(self) -> None:
        name, colour = verdict_icon(self._verdict)
        self.setIcon(theme.icon(name, colour))
        room = max(0, self.width() - _SIDES_PX)
        metrics = self.fontMetrics()
        # A mnemonic would eat an ampersand in a model's name.
        fitting = (line for line in self._lines if metrics.horizontalAdvance(line) <= room)
        wanted = next(fitting, self._lines[-1])
        text = metrics.elidedText(wanted, Qt.TextElideMode.ElideRight, room)
        self.setText(text.replace("&", "&&"))
