"""One reference image: its picture small, its name, its size and what it costs."""

from PySide6.QtCore import QEvent, QPoint, QSize, Qt, Signal
from PySide6.QtGui import (
    QDrag,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.ui import theme
from app.ui.models.plan_inputs import Cost
from app.ui.models.references_model import Reference
from app.ui.widgets.cost_badge import CostBadge
from app.ui.widgets.picture_mime import row_data
from app.ui.widgets.wrapping_label import WrappingLabel

PICTURE_PX = 44
_CORNER_PX = 5


class ReferenceRow(QFrame):
    """Takes the focus: arrow keys go from row to row, with Alt they move it, Delete removes it.

    Signals:
        remove_asked(int): Its row.
        move_asked(int, int): Its row, and where it is to go.
        neighbour_asked(int): The row that is to have the focus.
    """

    remove_asked = Signal(int)
    move_asked = Signal(int, int)
    neighbour_asked = Signal(int)

    def __init__(self, row: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(f"reference_row_{row}")
        self.row = row
        self._reference: Reference | None = None
        self._count = 1
        self._pressed_at: QPoint | None = None
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.set_role(self, "reference")
        self._picture = QLabel(self)
        self._picture.setFixedSize(PICTURE_PX, PICTURE_PX)
        self._picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._name = QLabel(self)
        self._name.setObjectName(f"reference_name_{row}")
        self._name.setTextFormat(Qt.TextFormat.PlainText)
        # As narrow as the column is: what does not fit is left out in the middle.
        self._name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._size = QLabel(self)
        self._size.setObjectName(f"reference_size_{row}")
        theme.set_role(self._size, "muted")
        self._problem = WrappingLabel(self)
        self._problem.setObjectName(f"reference_problem_{row}")
        theme.set_role(self._problem, "problem")
        self._badge = CostBadge(
            f"reference_cost_{row}",
            explained=self.tr("What this reference image adds, if nothing has to give way"),
            parent=self,
        )
        self._remove = QToolButton(self)
        self._remove.setObjectName(f"reference_remove_{row}")
        self._remove.setIcon(theme.icon("close", "muted"))
        self._remove.setIconSize(QSize(14, 14))
        theme.set_role(self._remove, "small")
        self._remove.clicked.connect(lambda: self.remove_asked.emit(self.row))
        below = QHBoxLayout()
        below.setSpacing(theme.SPACING_PX)
        below.addWidget(self._size, 1)
        below.addWidget(self._badge, 0, Qt.AlignmentFlag.AlignVCenter)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addStretch(1)
        words.addWidget(self._name)
        words.addLayout(below)
        words.addStretch(1)
        line = QHBoxLayout()
        line.setSpacing(theme.SPACING_PX)
        line.addWidget(self._picture)
        line.addLayout(words, 1)
        line.addWidget(self._remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(5, 4, 4, 4)
        column.setSpacing(4)
        column.addLayout(line)
        column.addWidget(self._problem)

    def show_reference(self, reference: Reference, *, count: int) -> None:
        """Show a reference image; `count` is how many there are."""
        self._reference, self._count = reference, count
        self._picture.setPixmap(self._drawn(reference))
        # Its folder is in the tooltip: in a narrow column a path is hard to read.
        self._problem.setText(reference.problem.replace(reference.path, reference.name))
        self._problem.setVisible(bool(reference.problem))
        self._size.setText(self._size_text(reference))
        self.setToolTip(
            self.tr("{path}\nPull it, or press Alt with an arrow key, to move it").format(
                path=reference.path
            )
        )
        self._remove.setAccessibleName(
            self.tr("Remove reference image {name}").format(name=reference.name)
        )
        self._remove.setToolTip(self.tr("Take it off the list; the file stays (Del)"))
        self._elide()
        self._name_for_readers()

    def set_cost(self, cost: Cost | None) -> None:
        """Show what it costs; None where that is not known."""
        has_problem = self._reference is not None and bool(self._reference.problem)
        self._badge.set_cost(None if has_problem else cost)
        self._name_for_readers()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove_asked.emit(self.row)
        elif step is not None and event.modifiers() & Qt.KeyboardModifier.AltModifier:
            self.move_asked.emit(self.row, self.row + step)
        elif step is not None:
            self.neighbour_asked.emit(self.row + step)
        else:
            super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._pressed_at = event.position().toPoint()
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._pressed_at = None
        super().mouseReleaseEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        start = self._pressed_at
        if start is None:
            return
        moved = event.position().toPoint() - start
        if moved.manhattanLength() >= QApplication.startDragDistance():
            self._pressed_at = None
            self.drag()

    def drag(self) -> None:
        """Let the user pull it to another place."""
        drag = QDrag(self)
        drag.setMimeData(row_data(self.row))
        drag.setPixmap(self.grab())
        run_drag(drag)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._reference is not None:
            self._picture.setPixmap(self._drawn(self._reference))

    def _size_text(self, reference: Reference) -> str:
        if reference.problem:
            return self.tr("Cannot be used")
        if reference.size is None:
            return self.tr("Looking at it…")
        return self.tr("{width} × {height}").format(
            width=reference.size[0], height=reference.size[1]
        )

    def _elide(self) -> None:
        if self._reference is None:
            return
        width = self._name.width()
        metrics, middle = self._name.fontMetrics(), Qt.TextElideMode.ElideMiddle
        self._name.setText(metrics.elidedText(self._reference.name, middle, width))

    def _name_for_readers(self) -> None:
        if self._reference is None:
            return
        about = self._problem.text() or self.tr("{size} px").format(size=self._size.text())
        parts = [self._reference.name, about, self._badge.text()]
        self.setAccessibleName(
            self.tr("Reference image {n} of {count}: {what}").format(
                n=self.row + 1, count=self._count, what=", ".join(filter(None, parts))
            )
        )
        self.setAccessibleDescription(self.tr("Alt with an arrow key moves it, Delete removes it"))

    def _drawn(self, reference: Reference) -> QPixmap:
        """Its picture with round corners, or a sign where there is none."""
        if reference.thumbnail.isNull():
            sign, colour = ("warning", "danger") if reference.problem else ("image", "muted")
            edge = QSize(theme.ICON_PX + 4, theme.ICON_PX + 4)
            return theme.icon(sign, colour).pixmap(edge, self.devicePixelRatioF())
        ratio = self.devicePixelRatioF()
        edge = round(PICTURE_PX * ratio)
        small = QPixmap.fromImage(reference.thumbnail).scaled(
            edge,
            edge,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        drawn = QPixmap(small.size())
        drawn.fill(Qt.GlobalColor.transparent)
        corner = _CORNER_PX * ratio
        outline = QPainterPath()
        outline.addRoundedRect(0, 0, small.width(), small.height(), corner, corner)
        painter = QPainter(drawn)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setClipPath(outline)
        painter.drawPixmap(0, 0, small)
        painter.end()
        drawn.setDevicePixelRatio(ratio)
        return drawn


def run_drag(drag: QDrag) -> None:
    """Blocks until the user lets go; a function of its own so that tests need no mouse."""
    drag.exec(Qt.DropAction.MoveAction)
