"""A list of a few values to choose from, each with a word and an explanation."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.ui.widgets.calm_combo import CalmComboBox


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value: what it is called, and a sentence about it."""

    value: object
    text: str
    tip: str = ""


class ChoiceBox(CalmComboBox):
    """Keeps the value that was chosen when the list, or a word in it, becomes another.

    Signals:
        chosen(object): The user chose this value.
    """

    chosen = Signal(object)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        # Long words must not widen the form.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._choices: tuple[Choice, ...] = ()
        self.activated.connect(self._on_activated)

    @property
    def value(self) -> object:
        """What is chosen; None before there is anything to choose from."""
        index = self.currentIndex()
        return self._choices[index].value if 0 <= index < len(self._choices) else None

    def set_choices(self, choices: Sequence[Choice]) -> None:
        """Offer these; the same as before costs nothing."""
        offered = tuple(choices)
        if offered == self._choices:
            return
        kept = self.value
        same = [one.value for one in offered] == [one.value for one in self._choices]
        self._choices = offered
        if not same:
            self.clear()
            self.addItems([one.text for one in offered])
        for index, one in enumerate(offered):
            self.setItemText(index, one.text)
            self.setItemData(index, one.tip, Qt.ItemDataRole.ToolTipRole)
        self.set_value(kept)

    def set_value(self, value: object) -> None:
        """Show this one; nothing where it is not offered."""
        values = [one.value for one in self._choices]
        self.setCurrentIndex(values.index(value) if value in values else -1)

    def _on_activated(self, index: int) -> None:
        if 0 <= index < len(self._choices):
            self.chosen.emit(self._choices[index].value)
