"""The seed: a number up to 2**64 - 1, which no spin box of Qt can hold."""

from PySide6.QtCore import QRegularExpression, QSize, Qt, Signal
from PySide6.QtGui import QRegularExpressionValidator
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QToolButton, QWidget

from app.core.request import MAX_SEED
from app.ui import theme


class SeedEdit(QWidget):
    """A line for the seed, a dice that draws one, a lock that keeps it.

    Signals:
        seed_typed(str): As it was typed, digits only.
        dice_thrown(): The user wants another seed.
        lock_toggled(bool): Whether the seed is to be kept.
    """

    seed_typed = Signal(str)
    dice_thrown = Signal()
    lock_toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("seed_edit")
        self._line = QLineEdit(self)
        self._line.setObjectName("seed_line")
        self._line.setAccessibleName(self.tr("Seed"))
        self._line.setToolTip(
            self.tr("A number from 0 to {most}; the same seed gives the same picture.").format(
                most=MAX_SEED
            )
        )
        self._line.setMaxLength(20)
        self._line.setInputMethodHints(Qt.InputMethodHint.ImhDigitsOnly)
        self._line.setValidator(
            QRegularExpressionValidator(QRegularExpression("[0-9]{0,20}"), self._line)
        )
        self._line.textEdited.connect(self.seed_typed)
        self._dice = self._button("seed_dice", "dice", self.tr("Draw another seed"))
        self._dice.clicked.connect(self._on_dice_clicked)
        self._lock = self._button("seed_lock", "unlock", "")
        self._lock.setCheckable(True)
        self._lock.clicked.connect(self.lock_toggled)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._line, 1)
        layout.addWidget(self._dice)
        layout.addWidget(self._lock)
        self.setFocusProxy(self._line)
        self._is_locked: bool | None = None
        self.set_locked(locked=False)

    def set_seed(self, seed: int) -> None:
        """Show a seed; what is being typed stays when it means the same number."""
        typed = self._line.text()
        if not typed.isdigit() or int(typed) != seed:
            self._line.setText(str(seed))
            self._line.setCursorPosition(0)

    def set_locked(self, *, locked: bool) -> None:
        """Show whether the seed is kept."""
        self._lock.setChecked(locked)
        if locked == self._is_locked:
            return
        self._is_locked = locked
        self._lock.setIcon(theme.icon("lock" if locked else "unlock"))
        self._lock.setAccessibleName(
            self.tr("Seed is kept") if locked else self.tr("Seed changes with each Generate")
        )
        self._lock.setToolTip(
            self.tr("The seed is kept: click to draw a new one for each Generate.")
            if locked
            else self.tr("Each Generate draws a new seed: click to keep this one.")
        )

    def _on_dice_clicked(self) -> None:
        # Also where the line holds the same number written differently, or nothing.
        self._line.clear()
        self.dice_thrown.emit()

    def _button(self, name: str, icon: str, text: str) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName(name)
        button.setIcon(theme.icon(icon))
        button.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        button.setAccessibleName(text)
        button.setToolTip(text)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        return button
