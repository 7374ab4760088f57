"""How memory may be used, as a part of the form that can be folded away."""

from PySide6.QtCore import QCoreApplication, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from app.core.policy import MemoryMode, Precision
from app.ui import theme
from app.ui.models.memory_choices import (
    as_set,
    automatic,
    fidelity,
    given_placement,
    given_precision,
    headroom_bytes,
    mode_word,
    most_headroom_bytes,
    precision_tip,
    precision_word,
)
from app.ui.models.memory_frame import Lane
from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.policy_file import PolicyState
from app.ui.models.policy_model import PolicyModel
from app.ui.models.presets_model import PresetsModel
from app.ui.panels.memory_more import MemoryMore
from app.ui.panels.preset_bar import PresetBar
from app.ui.widgets.choice_box import Choice, ChoiceBox
from app.ui.widgets.field import Field
from app.ui.widgets.headroom_slider import HeadroomSlider
from app.ui.widgets.section import Section


class MemorySettings(Section):
    """Preset, headroom, mode, precision, and what may never change.

    Signals:
        fit_asked(): The user wants to know what would fit.
    """

    fit_asked = Signal()

    def __init__(
        self,
        policy: PolicyModel,
        plans: PlanModel,
        presets: PresetsModel,
        parent: QWidget | None = None,
    ) -> None:
        title = QCoreApplication.translate("MemorySettings", "Memory")
        super().__init__(title, "memory_settings", parent)
        self._policy, self._plans, self._presets = policy, plans, presets
        content = QWidget(self)
        self._bar = PresetBar(presets, content)
        self._headroom = HeadroomSlider(content)
        self._headroom_field = Field(
            self.tr("&Leave to other programs"), self._headroom, name="headroom", parent=content
        )
        self._mode = ChoiceBox("memory_mode", content)
        self._mode_field = Field(self.tr("&On the GPU"), self._mode, name="mode", parent=content)
        self._precision = ChoiceBox("memory_precision", content)
        self._precision_field = Field(
            self.tr("&Keep weights in"), self._precision, name="precision", parent=content
        )
        self._strict = QCheckBox(self.tr("Strict: &never fewer or smaller pictures"), content)
        self._upscale = QCheckBox(self.tr("&Bring smaller pictures to the asked size"), content)
        # Made in the order they stand in, which is the order of Tab.
        self._more = MemoryMore(policy, plans, content)
        self._fit = QPushButton(self.tr("What would fit?"), content)
        self._build()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self._bar)
        column.addWidget(self._headroom_field)
        column.addWidget(self._mode_field)
        column.addWidget(self._precision_field)
        column.addWidget(self._strict)
        column.addWidget(self._upscale)
        column.addWidget(self._more)
        column.addWidget(self._fit, 0, Qt.AlignmentFlag.AlignLeft)
        self.set_content(content)
        policy.changed.connect(self._show_policy)
        plans.changed.connect(self._show_plan)
        presets.changed.connect(self._summarize)
        self._show_policy(policy.state)
        self._show_plan(plans.state)

    @property
    def fit_button(self) -> QPushButton:
        """What asks for what would fit."""
        return self._fit

    def _build(self) -> None:
        self._mode.setToolTip(self.tr("What stays in the GPU's memory; pictures are the same"))
        self._mode.chosen.connect(self._policy.set_mode)
        self._precision.setToolTip(
            self.tr("Fewer bits need less memory, and change the picture a little")
        )
        self._precision.chosen.connect(self._policy.set_precision)
        self._strict.setObjectName("memory_strict")
        self._strict.setToolTip(
            self.tr(
                "When memory is short, a run is refused with the reason, instead of making fewer "
                "or smaller pictures"
            )
        )
        self._strict.toggled.connect(self._on_strict_toggled)
        self._upscale.setObjectName("memory_upscale_back")
        self._upscale.setToolTip(
            self.tr(
                "A picture that had to be made smaller is enlarged to the size you asked for; "
                "it has no more detail than the smaller one"
            )
        )
        self._upscale.toggled.connect(self._on_upscale_toggled)
        self._headroom.headroom_chosen.connect(self._on_headroom_chosen)
        self._fit.setObjectName("what_would_fit")
        self._fit.setToolTip(self.tr("The largest size and the most images that fit now"))
        theme.set_role(self._fit, "link")
        self._fit.clicked.connect(self.fit_asked)

    # Model to view.

    @Slot(object)
    def _show_policy(self, state: PolicyState) -> None:
        policy = state.policy
        self._show_headroom()
        self._show_choices()
        for box, value in (
            (self._strict, policy.strict),
            (self._upscale, policy.upscale_back and not policy.strict),
        ):
            with QSignalBlocker(box):
                box.setChecked(value)
        # Nothing becomes smaller then.
        self._upscale.setEnabled(not policy.strict)
        self._summarize()

    @Slot(object)
    def _show_plan(self, state: PlanState) -> None:
        self._fit.setEnabled(state.plan is not None)
        # Everything is in RAM then: there is nothing to choose.
        self._mode_field.setVisible(not self._on_cpu)
        self._show_headroom()
        self._show_choices()
        self._summarize()

    @property
    def _on_cpu(self) -> bool:
        return self._plans.state.lane is Lane.HOST

    def _show_headroom(self) -> None:
        inputs = self._plans.state.inputs
        self._headroom.set_kind(of_ram=self._on_cpu)
        if inputs is not None:
            self._headroom.set_most(most_headroom_bytes(inputs, on_cpu=self._on_cpu))
        self._headroom.set_headroom(headroom_bytes(self._policy.policy, on_cpu=self._on_cpu))

    def _show_choices(self) -> None:
        """Mode and precision; "automatic" says what it comes to by the plan of the moment."""
        policy, state = self._policy.policy, self._plans.state
        on_cpu = self._on_cpu
        placed = given_placement(state.plan, on_cpu=on_cpu)
        self._mode.set_choices(self._modes(placed if policy.mode is MemoryMode.AUTO else ""))
        self._mode.set_value(policy.mode)
        chosen = policy.precisions.transformer
        run_in = given_precision(state.plan) if chosen is Precision.AUTO else ""
        self._precision.set_choices(
            tuple(
                Choice(
                    value=one,
                    text=automatic(run_in) if one is Precision.AUTO else precision_word(one),
                    tip=precision_tip(one),
                )
                for one in Precision
                # On a GPU it would only cost; a preset may say so all the same.
                if one is not Precision.FP32 or on_cpu or chosen is one
            )
        )
        self._precision.set_value(chosen)
        self._precision_field.set_message(fidelity(chosen, state.plan), role="muted")

    def _modes(self, given: str) -> tuple[Choice, ...]:
        return (
            Choice(
                value=MemoryMode.AUTO,
                text=automatic(given),
                tip=self.tr(
                    "Weights stay on the GPU as far as there is room; the rest comes and goes"
                ),
            ),
            Choice(
                value=MemoryMode.RESIDENT,
                text=mode_word(MemoryMode.RESIDENT),
                tip=self.tr("The fastest way; a run that has no room for it is refused"),
            ),
            Choice(
                value=MemoryMode.BALANCED,
                text=mode_word(MemoryMode.BALANCED),
                tip=self.tr("The other half of the GPU's free memory is left to other programs"),
            ),
            Choice(
                value=MemoryMode.MINIMAL,
                text=mode_word(MemoryMode.MINIMAL),
                tip=self.tr("Leaves most of the GPU to other programs; pictures may take longer"),
            ),
        )

    @Slot()
    def _summarize(self) -> None:
        policy, row = self._policy.policy, self._presets.current
        parts: list[str] = []
        if row is not None:
            parts.append(self.tr("{name}, changed") if self._presets.modified else "{name}")
            parts[0] = parts[0].format(name=row.name)
        left = headroom_bytes(policy, on_cpu=self._on_cpu)
        parts.append(self.tr("leaves {size}").format(size=as_set(left)))
        if policy.precisions.transformer is not Precision.AUTO:
            parts.append(precision_word(policy.precisions.transformer))
        if policy.strict:
            parts.append(self.tr("strict"))
        self.set_summary(" · ".join(parts))

    # View to model.

    @Slot(object)
    def _on_headroom_chosen(self, chosen_bytes: int) -> None:
        if self._on_cpu:
            self._policy.update(ram_headroom_bytes=chosen_bytes)
        else:
            self._policy.set_headroom(chosen_bytes)

    def _on_strict_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._policy.set_strict(strict=checked)

    def _on_upscale_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._policy.set_upscale_back(upscale_back=checked)
