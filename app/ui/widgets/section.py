"""A part of a form that can be folded away, with a summary while it is."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from app.ui import theme


class Section(QWidget):
    """A heading with an arrow, and below it the content unless it is folded.

    Signals:
        toggled(bool): Whether it is open now.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._content: QWidget | None = None
        self._summary_text = ""
        self._head = QToolButton(self)
        self._head.setObjectName(f"{name}_head")
        self._head.setText(title)
        self._head.setAccessibleName(title)
        self._head.setCheckable(True)
        self._head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._head.setIconSize(QSize(14, 14))
        self._head.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._head.setToolTip(self.tr("Show or fold away"))
        theme.set_role(self._head, "section")
        self._head.toggled.connect(self._on_toggled)
        self._summary = QLabel(self)
        self._summary.setObjectName(f"{name}_summary")
        self._summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._summary.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        theme.set_role(self._summary, "muted")
        line = QHBoxLayout()
        line.setSpacing(theme.SPACING_PX)
        line.addWidget(self._head)
        line.addWidget(self._summary, 1)
        line.addStretch(0)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.SPACING_PX)
        self._column.addLayout(line)
        self._show_arrow()

    @property
    def is_open(self) -> bool:
        """Whether the content is shown."""
        return self._head.isChecked()

    @property
    def head(self) -> QToolButton:
        """What opens and folds it."""
        return self._head

    def set_content(self, content: QWidget) -> None:
        """Put this below the heading."""
        self._content = content
        self._column.addWidget(content)
        content.setVisible(self.is_open)

    def set_open(self, *, is_open: bool) -> None:
        """Show the content, or fold it away."""
        self._head.setChecked(is_open)

    def set_summary(self, text: str) -> None:
        """Say in a few words what is inside, for when it is folded."""
        self._summary_text = text
        self._summary.setToolTip(text)
        self._head.setToolTip(text or self.tr("Show or fold away"))
        self._head.setAccessibleDescription(text)
        self._elide()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        room = max(0, self.width() - self._head.sizeHint().width() - theme.SPACING_PX)
        metrics = self._summary.fontMetrics()
        elided = metrics.elidedText(self._summary_text, Qt.TextElideMode.ElideRight, room)
        self._summary.setText(elided)

    def _on_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._show_arrow()
        self._summary.setVisible(not checked)
        if self._content is not None:
            self._content.setVisible(checked)
        self.toggled.emit(checked)

    def _show_arrow(self) -> None:
        name = "chevron-down" if self._head.isChecked() else "chevron-right"
        self._head.setIcon(theme.icon(name, "muted"))
