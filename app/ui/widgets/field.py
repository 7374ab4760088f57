"""A label above a control, and below it whatever there is to say about its value."""

from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.ui import theme
from app.ui.widgets.wrapping_label import WrappingLabel


class Field(QWidget):
    """One control of a form.

    Attributes:
        message: The sentence below the control; hidden while there is none.
    """

    def __init__(
        self, label: str, control: QWidget, *, name: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName(f"{name}_field")
        self._control = control
        self._label = QLabel(label, self)
        self._label.setObjectName(f"{name}_label")
        self._label.setBuddy(control)
        theme.set_role(self._label, "field")
        self._aside = QHBoxLayout()
        self._aside.setSpacing(4)
        self.message = WrappingLabel(self)
        self.message.setObjectName(f"{name}_message")
        self.message.hide()
        if not control.accessibleName():
            control.setAccessibleName(label.replace("&", ""))
        top = QHBoxLayout()
        top.addWidget(self._label)
        top.addStretch(1)
        top.addLayout(self._aside)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(control)
        layout.addWidget(self.message)

    def set_label(self, label: str) -> None:
        """Name the control otherwise."""
        if label != self._label.text():
            self._label.setText(label)
            self._control.setAccessibleName(label.replace("&", ""))

    def add_beside_label(self, widget: QWidget) -> None:
        """Put something small at the right end of the label's line."""
        self._aside.addWidget(widget)

    def set_message(self, text: str, *, role: str = "problem") -> None:
        """Say something below the control; "" takes it away."""
        theme.set_role(self.message, role)
        self.message.setText(text)
        self.message.setVisible(bool(text))
        self._control.setAccessibleDescription(text)
        problem = bool(text) and role == "problem"
        if bool(self._control.property("problem")) != problem:
            self._control.setProperty("problem", problem)
            self._control.style().unpolish(self._control)
            self._control.style().polish(self._control)
