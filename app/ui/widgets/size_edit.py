"""Width and height in pixels, a button that swaps them, and the usual shapes."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QRegularExpression, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QRegularExpressionValidator
from PySide6.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.core.request import MAX_SIZE_PX, MIN_SIZE_PX, SIZE_MULTIPLE_PX
from app.ui import theme


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A shape: so many across for so many down."""

    across: int
    down: int

    def fits(self, width_px: int, height_px: int) -> bool:
        """Whether a size has this shape, as well as multiples of 16 allow."""
        wanted = width_px * self.down / self.across
        return abs(wanted - height_px) <= SIZE_MULTIPLE_PX / 2 + 1


RATIOS = (
    Ratio(across=1, down=1),
    Ratio(across=4, down=3),
    Ratio(across=3, down=2),
    Ratio(across=16, down=9),
    Ratio(across=3, down=4),
    Ratio(across=2, down=3),
    Ratio(across=9, down=16),
)

RATIO_HEIGHT_PX = 48


class RatioButton(QToolButton):
    """A shape one can choose: drawn, with its name below."""

    def __init__(self, ratio: Ratio, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ratio = ratio
        name = f"{ratio.across}:{ratio.down}"
        self.setObjectName(f"ratio_{ratio.across}_{ratio.down}")
        self._name = name
        self.setCheckable(True)
        self.setAccessibleName(self.tr("Shape {name}").format(name=name))
        self.setToolTip(
            self.tr("{name}, with about as many pixels as the model was made for.").format(
                name=name
            )
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.set_role(self, "chip")

    def sizeHint(self) -> QSize:
        return QSize(36, RATIO_HEIGHT_PX)

    def minimumSizeHint(self) -> QSize:
        return QSize(32, RATIO_HEIGHT_PX)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        colours = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        longest = max(self.ratio.across, self.ratio.down)
        width, height = 17 * self.ratio.across / longest, 17 * self.ratio.down / longest
        centre = QPointF(self.width() / 2, 16.5)
        colour = colours.accent if self.isChecked() else colours.muted
        painter.setPen(QPen(QColor(colour), 1.5))
        painter.drawRoundedRect(
            QRectF(centre.x() - width / 2, centre.y() - height / 2, width, height), 2, 2
        )
        painter.setPen(colours.text if self.isChecked() else colours.muted)
        painter.drawText(QRectF(0, 28, self.width(), 16), Qt.AlignmentFlag.AlignCenter, self._name)
        painter.end()


class SizeEdit(QWidget):
    """The picture's size.

    Signals:
        width_chosen(int), height_chosen(int): Pixels, as typed.
        ratio_chosen(Ratio): A shape.
        swap_chosen(): Width and height change places.
    """

    width_chosen = Signal(int)
    height_chosen = Signal(int)
    ratio_chosen = Signal(object)
    swap_chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("size_edit")
        self._shown: tuple[int, int] | None = None
        self._width = self._line("width_line", self.tr("Width in pixels"))
        self._width.editingFinished.connect(lambda: self._on_edited(self._width, 0))
        self._height = self._line("height_line", self.tr("Height in pixels"))
        self._height.editingFinished.connect(lambda: self._on_edited(self._height, 1))
        times = QLabel("×", self)
        theme.set_role(times, "muted")
        swap = QToolButton(self)
        swap.setObjectName("size_swap")
        swap.setIcon(theme.icon("swap"))
        swap.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        swap.setAccessibleName(self.tr("Swap width and height"))
        swap.setToolTip(self.tr("Swap width and height"))
        swap.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        swap.clicked.connect(self.swap_chosen)
        line = QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(self._width, 1)
        line.addWidget(times)
        line.addWidget(self._height, 1)
        line.addWidget(swap)
        self._ratios = QButtonGroup(self)
        # Not exclusive: a size that has none of the shapes leaves all of them off.
        self._ratios.setExclusive(False)
        shapes = QGridLayout()
        shapes.setSpacing(4)
        # The style sheet's smallest height goes before the button's own; a low window would cut it.
        shapes.setRowMinimumHeight(0, RATIO_HEIGHT_PX)
        for column, ratio in enumerate(RATIOS):
            button = RatioButton(ratio, self)
            self._ratios.addButton(button)
            shapes.addWidget(button, 0, column)
        self._ratios.buttonClicked.connect(self._on_ratio_clicked)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(line)
        layout.addLayout(shapes)
        self.setFocusProxy(self._width)

    def set_size(self, width_px: int, height_px: int) -> None:
        """Show a size."""
        self._shown = (width_px, height_px)
        self._width.setText(str(width_px))
        self._height.setText(str(height_px))
        for button in self._ratios.buttons():
            if isinstance(button, RatioButton):
                button.setChecked(button.ratio.fits(width_px, height_px))

    def _on_edited(self, line: QLineEdit, side: int) -> None:
        if self._shown is None:
            return
        text = line.text()
        if text == str(self._shown[side]):
            return
        if not text:
            line.setText(str(self._shown[side]))
            return
        (self.height_chosen if side else self.width_chosen).emit(int(text))

    def _on_ratio_clicked(self, button: RatioButton) -> None:
        self.ratio_chosen.emit(button.ratio)
        if self._shown is not None:
            self.set_size(*self._shown)

    def _line(self, name: str, text: str) -> QLineEdit:
        line = QLineEdit(self)
        line.setObjectName(name)
        line.setAccessibleName(text)
        line.setToolTip(
            self.tr("{text}, {low} to {high} in steps of {step}").format(
                text=text, low=MIN_SIZE_PX, high=MAX_SIZE_PX, step=SIZE_MULTIPLE_PX
            )
        )
        line.setAlignment(Qt.AlignmentFlag.AlignCenter)
        # Any number may be typed; what becomes of it is said below the field.
        # An int validator would never let an emptied line be finished.
        line.setValidator(QRegularExpressionValidator(QRegularExpression("[0-9]{0,6}"), line))
        return line
