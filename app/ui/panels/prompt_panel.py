"""What to draw: the prompt, its length in tokens, Generate and Cancel."""

from collections.abc import Iterable
from itertools import pairwise

from PySide6.QtCore import QEvent, QMimeData, QSize, Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent, QKeySequence, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.core.request import MAX_PROMPT_TOKENS
from app.ui import theme
from app.ui.models.request_model import RequestModel
from app.ui.models.token_model import TokenCount, TokenModel
from app.ui.widgets.field import Field

CUT_SHOWN_CHARACTERS = 60
LOWEST_PX = 96
TALLEST_PX = 400
"""A prompt has at most 512 tokens; on a large screen the rest of the column stays free."""


class PromptEdit(QPlainTextEdit):
    """A text editor whose text can be replaced without losing what can be undone."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("prompt_edit")
        self.setTabChangesFocus(True)
        theme.set_role(self, "prompt")

    def replace_text(self, text: str) -> None:
        """Show another text; undo brings the former one back."""
        if text == self.toPlainText():
            return
        # setPlainText would clear the undo stack.
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        cursor.endEditBlock()

    def sizeHint(self) -> QSize:
        # Qt's own would push the settings out of a low window; where there is room it grows.
        return QSize(super().sizeHint().width(), LOWEST_PX + 24)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        # A picture dropped here is for the window: its settings come back, not its address.
        return not source.hasUrls() and super().canInsertFromMimeData(source)

    def event(self, e: QEvent) -> bool:
        if (
            e.type() == QEvent.Type.ShortcutOverride
            and isinstance(e, QKeyEvent)
            and e.matches(QKeySequence.StandardKey.Paste)
            and not self.canPaste()
        ):
            # Such as a copied picture: left to the window's command, which follows it.
            e.ignore()
            return False
        return super().event(e)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Left to the window's shortcuts: Generate; the editor would start a new line.
        if (
            event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            and event.modifiers() & Qt.KeyboardModifier.ControlModifier
        ):
            event.ignore()
            return
        super().keyPressEvent(event)


class PromptPanel(QWidget):
    """The prompt and the two buttons that matter most.

    Signals:
        generate_clicked(), cancel_clicked(): The user wants a picture, or no longer.
    """

    generate_clicked = Signal()
    cancel_clicked = Signal()

    def __init__(
        self, form: RequestModel, tokens: TokenModel, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("prompt_panel")
        self._form = form
        self._edit = PromptEdit(self)
        self._edit.setPlaceholderText(
            self.tr(
                "What do you want to see?\n"
                "For example: a big red circle at the top on a blue background"
            )
        )
        self._edit.setToolTip(
            self.tr("FLUX.2 reads whole sentences, up to {limit} tokens.").format(
                limit=MAX_PROMPT_TOKENS
            )
        )
        self._edit.setMinimumHeight(LOWEST_PX)
        self.setMaximumHeight(TALLEST_PX)
        self._edit.textChanged.connect(self._on_text_changed)
        self._field = Field(self.tr("&Prompt"), self._edit, name="prompt", parent=self)
        self._tokens = QLabel(self)
        self._tokens.setObjectName("token_count")
        self._tokens.setAccessibleName(self.tr("Length of the prompt"))
        self._tokens.setToolTip(self.tr("Length of the prompt in the model's tokens"))
        theme.set_role(self._tokens, "muted")
        self._field.add_beside_label(self._tokens)
        self._generate = QPushButton(self.tr("&Generate"), self)
        self._generate.setObjectName("generate_button")
        self._generate.setIcon(theme.icon("generate", "accent_text"))
        self._generate.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        self._generate.setToolTip(
            self.tr(
                "Make the picture (Ctrl+Enter); while one is being made, queue another. "
                "Ctrl+Shift+Enter queues it as the next one."
            )
        )
        theme.set_role(self._generate, "primary")
        self._generate.clicked.connect(self.generate_clicked)
        self._cancel = QPushButton(self.tr("&Cancel"), self)
        self._cancel.setObjectName("cancel_button")
        self._cancel.setIcon(theme.icon("stop", "danger"))
        self._cancel.setIconSize(QSize(theme.ICON_PX - 4, theme.ICON_PX - 4))
        self._cancel.setToolTip(self.tr("Stop the picture that is being made (Esc)"))
        self._cancel.setEnabled(False)
        theme.set_role(self._cancel, "danger")
        self._cancel.clicked.connect(self.cancel_clicked)
        buttons = QHBoxLayout()
        buttons.setSpacing(theme.SPACING_PX)
        buttons.addWidget(self._generate, 1)
        buttons.addWidget(self._cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.SPACING_PX)
        layout.addWidget(self._field, 1)
        layout.addLayout(buttons)
        self._column = layout
        self._inserted: list[QWidget] = []
        self._edit.replace_text(form.form.prompt)
        self._edit.document().clearUndoRedoStacks()
        form.prompt_changed.connect(self._edit.replace_text)
        tokens.counted.connect(self._on_counted)

    def add_below_prompt(self, widget: QWidget) -> None:
        """Put something between the prompt and Generate; the prompt keeps its own height."""
        self._inserted.append(widget)
        self._column.insertWidget(len(self._inserted), widget)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.LayoutRequest:
            heights = [
                widget.sizeHint().height() + self._column.spacing() for widget in self._inserted
            ]
            self.setMaximumHeight(TALLEST_PX + sum(heights))
        return super().event(event)

    def add_below_buttons(self, widget: QWidget) -> None:
        """Put something below Generate."""
        self._column.addWidget(widget)

    def set_stops(self, below_prompt: Iterable[QWidget], below_buttons: QWidget) -> None:
        """Have Tab come to what was added where it stands; once everything has its parent."""
        stops = (self._edit, *below_prompt, self._generate, self._cancel, below_buttons)
        for one, following in pairwise(stops):
            self.setTabOrder(one, following)

    @Slot()
    def focus_prompt(self) -> None:
        """Have the keyboard write into the prompt.

        No focus proxy: Tab would come to this panel behind its parts, and be sent back from it.
        """
        self._edit.setFocus()

    def set_running(self, *, running: bool) -> None:
        """Say whether there is something to cancel."""
        self._cancel.setEnabled(running)
        self._generate.setText(self.tr("&Add to queue") if running else self.tr("&Generate"))

    def set_problem(self, text: str) -> None:
        """Say what is wrong with the prompt; "" when nothing is."""
        self._field.set_message(text)
        if text:
            self._edit.setFocus()

    def _on_text_changed(self) -> None:
        self._field.set_message("")
        self._form.set_prompt(self._edit.toPlainText())

    def _on_counted(self, count: TokenCount | None) -> None:
        if count is None:
            self._tokens.setText("")
            return
        self._tokens.setText(
            self.tr("{tokens} / {limit} tokens").format(tokens=count.tokens, limit=count.limit)
        )
        over = count.tokens > count.limit
        theme.set_role(self._tokens, "note" if over else "muted")
        if over:
            self._field.set_message(self._cut_note(count), role="note")
        elif self._field.message.property("role") == "note":
            self._field.set_message("")

    def _cut_note(self, count: TokenCount) -> str:
        cut = " ".join(count.cut.split())
        shown = cut[:CUT_SHOWN_CHARACTERS]
        over = count.tokens - count.limit
        much = self.tr("1 token") if over == 1 else self.tr("{n} tokens").format(n=over)
        return self.tr("Too long by {much}: the model will not read from “{cut}” on.").format(
            much=much, cut=shown + ("…" if shown != cut else "")
        )
