"""What few change about memory: limit, text encoder, attention, compiling."""

from PySide6.QtCore import QCoreApplication, QSignalBlocker, Slot
from PySide6.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from app.core.policy import Attention, Precision
from app.ui.models.memory_choices import (
    as_set,
    attention_tip,
    attention_word,
    automatic,
    precision_tip,
    precision_word,
)
from app.ui.models.memory_frame import Lane
from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.policy_file import PolicyState
from app.ui.models.policy_model import PolicyModel
from app.ui.widgets.choice_box import Choice, ChoiceBox
from app.ui.widgets.field import Field
from app.ui.widgets.limit_edit import LimitEdit
from app.ui.widgets.section import Section


class MemoryMore(Section):
    """A part of the memory settings that is folded away until somebody wants it."""

    def __init__(
        self, policy: PolicyModel, plans: PlanModel, parent: QWidget | None = None
    ) -> None:
        title = QCoreApplication.translate("MemoryMore", "More")
        super().__init__(title, "memory_more", parent)
        self._policy, self._plans = policy, plans
        content = QWidget(self)
        self._limit = LimitEdit(content)
        self._encoder = ChoiceBox("memory_encoder_precision", content)
        self._attention = ChoiceBox("memory_attention", content)
        self._compile = QCheckBox(self.tr("Compile the network's blocks"), content)
        self._build()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        self._limit_field = Field(
            self.tr("Use at most, of this GPU"), self._limit, name="memory_limit", parent=content
        )
        column.addWidget(self._limit_field)
        for label, box, name in (
            (self.tr("Text encoder's precision"), self._encoder, "memory_encoder_precision"),
            (self.tr("Attention"), self._attention, "memory_attention"),
        ):
            column.addWidget(Field(label, box, name=name, parent=content))
        column.addWidget(self._compile)
        self.set_content(content)
        policy.changed.connect(self._show_policy)
        plans.changed.connect(self._show_plan)
        self._show_policy(policy.state)
        self._show_plan(plans.state)

    def _build(self) -> None:
        self._encoder.setToolTip(self.tr("In what the text encoder's weights are kept and run"))
        self._attention.setToolTip(self.tr("What computes attention; pictures differ by a hair"))
        self._compile.setObjectName("memory_compile")
        self._compile.setToolTip(
            self.tr(
                "The first picture of a size takes a minute longer, those after it are faster; "
                "where it does not work, the run goes on without"
            )
        )
        self._limit.limit_chosen.connect(self._policy.set_limit)
        self._encoder.chosen.connect(self._policy.set_encoder_precision)
        self._attention.chosen.connect(self._policy.set_attention)
        self._compile.toggled.connect(self._on_compile_toggled)
        self._encoder.set_choices(
            (
                Choice(value=None, text=self.tr("As above")),
                *(
                    Choice(value=one, text=precision_word(one), tip=precision_tip(one))
                    for one in Precision
                ),
            )
        )

    @Slot(object)
    def _show_policy(self, state: PolicyState) -> None:
        policy = state.policy
        precisions = policy.precisions
        self._limit.set_limit(policy.limit_bytes)
        same = precisions.text_encoder is precisions.transformer
        self._encoder.set_value(None if same else precisions.text_encoder)
        self._show_attention()
        self._attention.set_value(policy.attention)
        with QSignalBlocker(self._compile):
            self._compile.setChecked(policy.compile)
        self._summarize()

    @Slot(object)
    def _show_plan(self, state: PlanState) -> None:
        if state.inputs is not None:
            self._limit.set_total(state.inputs.device.total_bytes)
        on_cpu = state.lane is Lane.HOST
        self._limit_field.set_label(
            self.tr("Use at most, of the RAM") if on_cpu else self.tr("Use at most, of this GPU")
        )
        self._show_attention()

    def _show_attention(self) -> None:
        found = self._plans.attention
        given = "" if found is Attention.AUTO else attention_word(found)
        chosen = self._policy.policy.attention
        self._attention.set_choices(
            tuple(
                Choice(
                    value=one,
                    text=automatic(given if chosen is one else "")
                    if one is Attention.AUTO
                    else attention_word(one),
                    tip=attention_tip(one),
                )
                for one in Attention
            )
        )

    def _summarize(self) -> None:
        """What is not as usual, for when it is folded."""
        policy = self._policy.policy
        precisions = policy.precisions
        parts: list[str] = []
        if policy.limit_bytes is not None:
            parts.append(self.tr("at most {size}").format(size=as_set(policy.limit_bytes)))
        if precisions.text_encoder is not precisions.transformer:
            word = precision_word(precisions.text_encoder)
            parts.append(self.tr("text encoder {precision}").format(precision=word))
        if policy.attention is not Attention.AUTO:
            parts.append(attention_word(policy.attention))
        if policy.compile:
            parts.append(self.tr("compiled"))
        self.set_summary(" · ".join(parts))

    def _on_compile_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._policy.set_compile(compiled=checked)
