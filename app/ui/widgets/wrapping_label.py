"""Sentences with long words in them, such as paths: broken where they must be, copied whole."""

import re

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QContextMenuEvent, QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QLabel, QMenu, QWidget

BREAK = "\N{ZERO WIDTH SPACE}"
LONGEST_WORD = 24
"""Longer words may be broken: a form has room for about forty characters."""
_LONG = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_JOINT = re.compile(r"(?<=[\\/_.=&?:,;+-])(?=[^\s\\/_.=&?:,;+-])")
_PIECE = re.compile(rf"[^\s{BREAK}]{{{LONGEST_WORD}}}(?=[^\s{BREAK}])")


def breakable(text: str) -> str:
    """A text whose long words may be broken: at their joints, else anywhere.

    Without this one word too many makes a window wider than its screen: lines are broken between
    words only, and what stands between backslashes is one word to Qt.
    """

    def broken(match: re.Match[str]) -> str:
        return _PIECE.sub(rf"\g<0>{BREAK}", _JOINT.sub(BREAK, match[0]))

    return _LONG.sub(broken, text)


class WrappingLabel(QLabel):
    """A label of plain text over several lines, no wider than what is around it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._said = ""
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def text(self) -> str:
        return self._said

    def setText(self, arg__1: str, /) -> None:
        self._said = arg__1
        super().setText(breakable(arg__1))
        # Screen readers are to hear words, not their pieces.
        self.setAccessibleName(arg__1)

    def event(self, e: QEvent) -> bool:
        if (
            e.type() == QEvent.Type.KeyPress
            and isinstance(e, QKeyEvent)
            and e.matches(QKeySequence.StandardKey.Copy)
            and self.hasSelectedText()
        ):
            self.copy()
            return True
        return super().event(e)

    def copy(self) -> None:
        """Copy what is selected, else all of it, as it was said."""
        text = self.selectedText().replace(BREAK, "") or self._said
        QGuiApplication.clipboard().setText(text)

    def contextMenuEvent(self, ev: QContextMenuEvent) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(self.tr("&Copy")).triggered.connect(lambda _=False: self.copy())
        menu.popup(ev.globalPos())
