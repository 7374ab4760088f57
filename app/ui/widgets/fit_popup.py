"""Whether it fits, what can be done about it, the most that would fit, and why."""

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import QPoint, QRect, QSize, Qt, Signal, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.core.plan import Verdict
from app.ui import theme
from app.ui.models.plan_model import PlanState
from app.ui.models.plan_words import time_words, verdict_word, waits_words
from app.ui.models.remedies import Fitting, Remedy
from app.ui.widgets.remedy_button import RemedyButton
from app.ui.widgets.verdict_icon import verdict_icon

WIDTH_PX = 400
"""At least."""
_EDGE_PX = 4
"""Between the popup and the edge of the screen."""


class FitPopup(QFrame):
    """Floats below what opened it; a click beside it, or Esc, closes it.

    Signals:
        chosen(Remedy): What the user wants done.
    """

    chosen = Signal(object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("fit_popup")
        self.setAccessibleName(self.tr("Does it fit?"))
        theme.set_role(self, "popup")
        self._anchor = parent
        self._offered: list[QWidget] = []
        self._icon = QLabel(self)
        self._title = self._label("fit_title", "title")
        self._summary = self._label("fit_summary", "")
        self._heading = self._label("fit_details_heading", "heading")
        self._heading.setText(self.tr("In detail"))
        self._reasons = self._label("fit_reasons", "muted")
        self._reasons.setTextFormat(Qt.TextFormat.RichText)
        self._looking = self._label("fit_looking", "muted")
        self._looking.setText(self.tr("Looking for what would fit…"))
        self._found = QWidget(self)
        self._found.setObjectName("fit_found")
        self._offers = QVBoxLayout(self._found)
        self._offers.setContentsMargins(0, 0, 0, 0)
        self._offers.setSpacing(6)
        head = QHBoxLayout()
        head.setSpacing(theme.SPACING_PX)
        head.addWidget(self._icon)
        head.addWidget(self._title, 1)
        column = self._column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 14)
        column.setSpacing(theme.SPACING_PX)
        column.addLayout(head)
        column.addWidget(self._summary)
        column.addWidget(self._looking)
        # What can be done comes before the reasons, of which there can be many.
        column.addWidget(self._found)
        column.addWidget(self._heading)
        column.addWidget(self._reasons)

    def show_state(self, state: PlanState) -> None:
        """Say a plan's verdict and reasons; what can be done comes with `show_fitting`."""
        plan = state.plan
        if plan is None:
            return
        icon, colour = verdict_icon(plan.verdict)
        size = QSize(theme.ICON_PX, theme.ICON_PX)
        self._icon.setPixmap(theme.icon(icon, colour).pixmap(size, self.devicePixelRatioF()))
        self._title.setText(verdict_word(plan.verdict))
        time = "" if plan.verdict is Verdict.DOES_NOT_FIT else time_words(plan)
        if state.waits:
            time = waits_words()
        # What does not fit is explained, and what helps besides the offers, in two or three lines.
        told = len(plan.reasons) if plan.verdict is Verdict.DOES_NOT_FIT else 1
        first, more = plan.reasons[:told], plan.reasons[told:]
        self._summary.setText(" ".join(filter(None, (*first, time))))
        self._reasons.setText(_listed(more))
        for label in (self._heading, self._reasons):
            label.setVisible(bool(more))
        self._clear()
        self._looking.show()
        self._fit_height()

    @Slot(object)
    def show_fitting(self, fitting: Fitting) -> None:
        """Offer what can be done."""
        self._looking.hide()
        self._clear()
        self._offer(self.tr("What you can do"), fitting.remedies, "remedy")
        offered = {(remedy.kind, remedy.label) for remedy in fitting.remedies}
        others = tuple(
            choice for choice in fitting.choices if (choice.kind, choice.label) not in offered
        )
        self._offer(self.tr("The most that would fit"), others, "choice")
        self._fit_height()

    def open_below(self, widget: QWidget) -> None:
        """Show it below a widget; above or beside it where the screen ends."""
        self._anchor = widget
        self._fit_height()
        self._place()
        self.show()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.setFocus(Qt.FocusReason.PopupFocusReason)

    def _offer(self, title: str, remedies: tuple[Remedy, ...], name: str) -> None:
        if not remedies:
            return
        heading = QLabel(title, self._found)
        theme.set_role(heading, "heading")
        self._add(heading)
        for remedy in remedies:
            button = RemedyButton(remedy, f"fit_{name}_{remedy.kind.value}", self._found)
            button.chosen.connect(self._on_chosen)
            self._add(button)

    def _add(self, widget: QWidget) -> None:
        self._offers.addWidget(widget)
        self._offered.append(widget)
        # Else it would have no size until the event loop turns.
        widget.show()

    @Slot(object)
    def _on_chosen(self, remedy: Remedy) -> None:
        self.close()
        self.chosen.emit(remedy)

    def _clear(self) -> None:
        for widget in self._offered:
            self._offers.removeWidget(widget)
            widget.hide()
            # It lives until the event loop turns; until then it must not pass for its successor.
            widget.setObjectName("")
            widget.deleteLater()
        self._offered = []

    def _fit_height(self) -> None:
        self._offers.activate()
        self._column.activate()
        # As wide as the longest offer: a number that is cut off would be missing.
        self.setFixedWidth(max(WIDTH_PX, self._column.totalMinimumSize().width()))
        self.setFixedHeight(self._column.totalHeightForWidth(self.width()))
        if self.isVisible():
            self._place()

    def _place(self) -> None:
        anchor = QRect(self._anchor.mapToGlobal(QPoint(0, 0)), self._anchor.size())
        screen = self._anchor.screen().availableGeometry()
        self.move(place_of(self.size(), anchor, screen))

    def _label(self, name: str, role: str) -> QLabel:
        label = QLabel(self)
        label.setObjectName(name)
        label.setWordWrap(True)
        label.setTextFormat(Qt.TextFormat.PlainText)
        if role:
            theme.set_role(label, role)
        return label


def place_of(size: QSize, anchor: QRect, screen: QRect) -> QPoint:
    """Where a popup goes: below what opened it, else above it, else beside it, never over it."""
    rightmost = screen.right() - size.width() - _EDGE_PX
    left = max(screen.left() + _EDGE_PX, min(anchor.left(), rightmost))
    below, above = anchor.bottom() + _EDGE_PX, anchor.top() - _EDGE_PX - size.height()
    if below + size.height() <= screen.bottom():
        return QPoint(left, below)
    if above >= screen.top():
        return QPoint(left, above)
    lowest = screen.bottom() - size.height() - _EDGE_PX
    top = max(screen.top() + _EDGE_PX, min(anchor.top(), lowest))
    beside = anchor.right() + 2 * _EDGE_PX
    if beside > rightmost:
        beside = max(screen.left() + _EDGE_PX, anchor.left() - 2 * _EDGE_PX - size.width())
    return QPoint(beside, top)


def _listed(points: Sequence[str]) -> str:
    """Points below each other, whose second lines begin where their first ones do."""
    rows = "".join(
        f"<tr><td>•&nbsp;</td><td>{escape(line, quote=False)}</td></tr>" for line in points
    )
    return f'<table cellspacing="0" cellpadding="0">{rows}</table>'
