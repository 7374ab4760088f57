"""The last log records, coloured by level, filtered and copied."""

import logging
import time
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import QEvent, QSize, QTimer
from PySide6.QtGui import (
    QColor,
    QFontDatabase,
    QGuiApplication,
    QHideEvent,
    QShowEvent,
    QTextCharFormat,
)
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.core.log import LogLine, LogRing
from app.ui import theme

INTERVAL_MS = 200
"""Records may come by the hundred; they are shown in one go."""
MAX_LINES = 5000


class LogView(QDialog):
    """A window with what the app and the engine logged; it may stay open while one works."""

    def __init__(self, ring: LogRing, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("log_view")
        self.setWindowTitle(self.tr("Log"))
        self.resize(860, 480)
        self._ring = ring
        self._new: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._end_listening: Callable[[], None] | None = None
        self._level = QComboBox(self)
        self._level.setObjectName("log_level")
        self._level.setAccessibleName(self.tr("Least level shown"))
        self._level.setToolTip(self.tr("Hide records below this level"))
        for name, level in (
            (self.tr("Everything"), logging.DEBUG),
            (self.tr("Information"), logging.INFO),
            (self.tr("Warnings"), logging.WARNING),
            (self.tr("Errors"), logging.ERROR),
        ):
            self._level.addItem(name, level)
        self._level.setCurrentIndex(1)
        self._level.currentIndexChanged.connect(self._show_all)
        self._search = QLineEdit(self)
        self._search.setObjectName("log_search")
        self._search.setAccessibleName(self.tr("Text to look for"))
        self._search.setToolTip(self.tr("Show only records that contain this text"))
        self._search.setPlaceholderText(self.tr("Filter"))
        self._search.setClearButtonEnabled(True)
        self._search.textChanged.connect(self._show_all)
        copy = QPushButton(self.tr("&Copy"), self)
        copy.setObjectName("log_copy")
        copy.setIcon(theme.icon("copy"))
        copy.setIconSize(QSize(16, 16))
        copy.setToolTip(self.tr("Put what is shown on the clipboard"))
        copy.clicked.connect(self.copy)
        self._text = QPlainTextEdit(self)
        self._text.setObjectName("log_text")
        self._text.setAccessibleName(self.tr("Log records"))
        self._text.setToolTip(self.tr("Newest at the bottom"))
        self._text.setReadOnly(True)
        self._text.setMaximumBlockCount(MAX_LINES)
        self._text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._show_new)
        label = QLabel(self.tr("&Show"), self)
        label.setBuddy(self._level)
        bar = QHBoxLayout()
        bar.setSpacing(theme.SPACING_PX)
        bar.addWidget(label)
        bar.addWidget(self._level)
        bar.addWidget(self._search, 1)
        bar.addWidget(copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 12, 12, 12)
        layout.setSpacing(theme.SPACING_PX)
        layout.addLayout(bar)
        layout.addWidget(self._text, 1)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._end_listening is None:
            # Called in the thread that logs: a deque takes it without a lock.
            self._end_listening = self._ring.add_listener(self._new.append)
            self._timer.start()
            self._show_all()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
            self._timer.stop()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        # Each record keeps the colour it was written in, which another theme would hide.
        if event.type() == QEvent.Type.PaletteChange and self.isVisible():
            self._show_all()

    def copy(self) -> None:
        """Put what is shown on the clipboard."""
        QGuiApplication.clipboard().setText(self._text.toPlainText())

    def _show_all(self) -> None:
        self._new.clear()
        self._text.clear()
        self._append(self._ring.lines())

    def _show_new(self) -> None:
        lines: list[LogLine] = []
        while self._new:
            lines.append(self._new.popleft())
        self._append(tuple(lines))

    def _append(self, lines: tuple[LogLine, ...]) -> None:
        least: int = self._level.currentData()
        wanted = self._search.text().casefold()
        colours = theme.colours()
        bar = self._text.verticalScrollBar()
        at_end = bar.value() == bar.maximum()
        cursor = self._text.textCursor()
        cursor.movePosition(cursor.MoveOperation.End)
        for line in lines:
            text = line_text(line)
            if line.level < least or wanted not in text.casefold():
                continue
            style = QTextCharFormat()
            style.setForeground(QColor(_colour(line.level, colours)))
            cursor.insertText(f"{text}\n", style)
        if at_end:
            bar.setValue(bar.maximum())


def line_text(line: LogLine) -> str:
    """A log record in one line (more with a traceback)."""
    clock = time.strftime("%H:%M:%S", time.localtime(line.time_s))
    level = logging.getLevelName(line.level)
    return f"{clock} {level:<8} {line.logger}: {line.message}"


def _colour(level: int, colours: theme.Colours) -> str:
    if level >= logging.ERROR:
        return colours.danger
    if level >= logging.WARNING:
        return colours.warning
    return colours.text if level >= logging.INFO else colours.muted
