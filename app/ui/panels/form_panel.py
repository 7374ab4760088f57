"""The left side of the window: prompt, Generate, verdict, settings and memory."""

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from app.ui import theme
from app.ui.models.window_models import WindowModels
from app.ui.panels.memory_settings import MemorySettings
from app.ui.panels.prompt_panel import PromptPanel
from app.ui.panels.reference_strip import ReferenceStrip
from app.ui.panels.settings_panel import SettingsPanel
from app.ui.panels.verdict_row import VerdictRow
from app.ui.widgets.edit_target import edit_focused


class FormPanel(QFrame):
    """A card with everything the next picture depends on; scrolls when the window is low.

    Attributes:
        prompt: The prompt and the buttons.
        references: The reference images.
        settings: How it is drawn.
        memory: How memory may be used.
        verdict: Whether it fits.
    """

    def __init__(self, models: WindowModels, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("form_card")
        theme.set_role(self, "card")
        planning = models.planning
        self.prompt = PromptPanel(models.form, models.tokens, self)
        self.settings = SettingsPanel(models.form, models.catalog, planning.plans, self)
        self.memory = MemorySettings(planning.policy, planning.plans, planning.presets, self)
        self.verdict = VerdictRow(planning.plans, planning.fitting, self)
        self.references = ReferenceStrip(
            models.references, models.form, models.catalog, planning.plans, self
        )
        self.prompt.add_below_prompt(self.references)
        self.prompt.add_below_buttons(self.verdict)
        models.studio.refused.connect(models.references.look_again)
        planning.fitting.references_wanted.connect(self.references.choose)
        self.memory.fit_asked.connect(self._on_fit_asked)
        gap = theme.SPACING_PX
        form = QWidget(self)
        form.setObjectName("form")
        column = QVBoxLayout(form)
        column.setContentsMargins(gap * 2, gap + 4, gap * 2, gap * 2)
        column.setSpacing(gap * 2)
        column.addWidget(self.prompt, 1)
        column.addWidget(self.settings)
        column.addWidget(self.memory)
        column.addStretch(0)
        scroll = QScrollArea(self)
        scroll.setObjectName("form_scroll")
        scroll.setAccessibleName(self.tr("Prompt and settings"))
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidgetResizable(True)
        scroll.setWidget(form)
        self._form, self._scroll = form, scroll
        form.installEventFilter(self)
        self._widen()
        inside = QVBoxLayout(self)
        inside.setContentsMargins(1, 1, 1, 1)
        inside.addWidget(scroll)
        self.prompt.set_stops(self.references.stops, self.verdict.chip)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # Parts that are folded out, and longer words, need more than there was at first.
        if watched is self._form and event.type() == QEvent.Type.LayoutRequest:
            self._widen()
        return super().eventFilter(watched, event)

    def _widen(self) -> None:
        """Never narrower than the form beside its scroll bar: nothing may be cut off."""
        bar_px = self._scroll.verticalScrollBar().sizeHint().width()
        self._scroll.setMinimumWidth(self._form.minimumSizeHint().width() + bar_px)

    def paste(self) -> None:
        """A copied picture is to be followed; all else is for the editor that has the focus."""
        if not self.references.take_pasted():
            edit_focused("paste")

    def _on_fit_asked(self) -> None:
        self.verdict.open_below(self.memory.fit_button)
