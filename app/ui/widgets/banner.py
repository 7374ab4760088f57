"""One sentence about what went wrong, above the work and never in its way."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QWidget

from app.core.errors import ErrorInfo
from app.ui import theme


class Banner(QFrame):
    """Shows the newest error or notice until it is closed.

    Signals:
        details_asked(ErrorInfo): The user wants to know more.
    """

    details_asked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self._error: ErrorInfo | None = None
        self._icon = QLabel(self)
        self._text = QLabel(self)
        self._text.setObjectName("banner_text")
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._details = QPushButton(self.tr("&Details"), self)
        self._details.setObjectName("banner_details")
        self._details.setToolTip(self.tr("Show everything that is known about this"))
        theme.set_role(self._details, "flat")
        self._details.clicked.connect(self._on_details_clicked)
        self._copy = self._button("banner_copy", "copy", self.tr("Copy this message"))
        self._copy.clicked.connect(self.copy)
        self._close = self._button("banner_close", "close", self.tr("Close this message"))
        self._close.clicked.connect(self.clear)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 6, 6)
        layout.setSpacing(theme.SPACING_PX)
        layout.addWidget(self._icon)
        layout.addWidget(self._text, 1)
        layout.addWidget(self._details)
        layout.addWidget(self._copy)
        layout.addWidget(self._close)
        self.hide()

    def show_error(self, error: ErrorInfo) -> None:
        """Say what went wrong."""
        self._show(error, role="banner", icon="error", colour="danger")

    def show_notice(self, text: str) -> None:
        """Say something that is no failure."""
        notice = ErrorInfo(code="notice", message=text)
        self._show(notice, role="banner-notice", icon="info", colour="warning")

    def clear(self) -> None:
        """Take the message away."""
        self._error = None
        self.hide()

    def copy(self) -> None:
        """Put the message and its details on the clipboard."""
        if self._error is not None:
            QGuiApplication.clipboard().setText(error_text(self._error))

    def _show(self, error: ErrorInfo, *, role: str, icon: str, colour: str) -> None:
        self._error = error
        theme.set_role(self, role)
        self._icon.setPixmap(
            theme.icon(icon, colour).pixmap(QSize(18, 18), self.devicePixelRatio())
        )
        self._text.setText(error.message)
        self.setAccessibleName(error.message)
        self._details.setVisible(bool(error.details or error.traceback_text))
        self.show()

    def _on_details_clicked(self) -> None:
        if self._error is not None:
            self.details_asked.emit(self._error)

    def _button(self, name: str, icon: str, text: str) -> QToolButton:
        button = QToolButton(self)
        button.setObjectName(name)
        button.setIcon(theme.icon(icon))
        button.setIconSize(QSize(16, 16))
        button.setAccessibleName(text)
        button.setToolTip(text)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.set_role(button, "flat")
        return button


def error_text(error: ErrorInfo) -> str:
    """An error with everything that is known about it, as plain text."""
    parts = (f"{error.message} [{error.code}]", error.details, error.traceback_text)
    return "\n\n".join(part for part in parts if part)
