"""How memory may be used, as a part of the form that can be folded away."""

from PySide6.QtCore import QCoreApplication, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.core.policy import MemoryMode
from app.core.units import GIB
from app.ui import theme
from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.policy_file import PolicyState
from app.ui.models.policy_model import PolicyModel
from app.ui.models.presets_model import PresetsModel
from app.ui.panels.preset_bar import PresetBar
from app.ui.widgets.field import Field
from app.ui.widgets.headroom_slider import HeadroomSlider
from app.ui.widgets.section import Section


class MemorySettings(Section):
    """Preset, headroom, mode, and what may never change.

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
        self._policy = policy
        self._presets = presets
        content = QWidget(self)
        self._bar = PresetBar(presets, content)
        self._headroom = HeadroomSlider(content)
        self._headroom_field = Field(
            self.tr("&Leave to other programs"), self._headroom, name="headroom", parent=content
        )
        self._mode = QComboBox(content)
        self._mode_field = Field(self.tr("&On the GPU"), self._mode, name="mode", parent=content)
        self._strict = QCheckBox(self.tr("&Never change size or number of images"), content)
        self._upscale = QCheckBox(self.tr("&Bring smaller pictures to the asked size"), content)
        self._fit = QPushButton(self.tr("What would fit?"), content)
        self._build()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self._bar)
        column.addWidget(self._headroom_field)
        column.addWidget(self._mode_field)
        column.addWidget(self._strict)
        column.addWidget(self._upscale)
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
        self._mode.setObjectName("memory_mode")
        self._mode.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._mode.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for mode, text, tip in (
            (
                MemoryMode.AUTO,
                self.tr("As much as fits"),
                self.tr("Weights stay on the GPU as far as there is room; the rest comes and goes"),
            ),
            (
                MemoryMode.RESIDENT,
                self.tr("Everything, or nothing runs"),
                self.tr("The fastest way; a run that has no room for it is refused"),
            ),
            (
                MemoryMode.MINIMAL,
                self.tr("As little as possible"),
                self.tr("Leaves most of the GPU to other programs; pictures take longer"),
            ),
        ):
            self._mode.addItem(text, mode)
            self._mode.setItemData(self._mode.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self._mode.setToolTip(self.tr("What stays in the GPU's memory; pictures are the same"))
        self._mode.activated.connect(self._on_mode_activated)
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
        self._headroom.headroom_chosen.connect(self._policy.set_headroom)
        self._fit.setObjectName("what_would_fit")
        self._fit.setToolTip(self.tr("The largest size and the most images that fit now"))
        theme.set_role(self._fit, "link")
        self._fit.clicked.connect(self.fit_asked)

    # Model to view.

    @Slot(object)
    def _show_policy(self, state: PolicyState) -> None:
        policy = state.policy
        self._headroom.set_headroom(policy.headroom_bytes)
        self._mode.setCurrentIndex(self._mode.findData(policy.mode))
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
        if state.inputs is not None:
            self._headroom.set_total(state.inputs.device.total_bytes)
            self._headroom.set_headroom(self._policy.policy.headroom_bytes)

    @Slot()
    def _summarize(self) -> None:
        policy, row = self._policy.policy, self._presets.current
        parts: list[str] = []
        if row is not None:
            parts.append(self.tr("{name}, changed") if self._presets.modified else "{name}")
            parts[0] = parts[0].format(name=row.name)
        size = f"{policy.headroom_bytes / GIB:.2f}".rstrip("0").rstrip(".")
        parts.append(self.tr("leaves {size} GB").format(size=size))
        if policy.strict:
            parts.append(self.tr("strict"))
        self.set_summary(" · ".join(parts))

    # View to model.

    def _on_mode_activated(self, index: int) -> None:
        self._policy.set_mode(self._mode.itemData(index))

    def _on_strict_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._policy.set_strict(strict=checked)

    def _on_upscale_toggled(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._policy.set_upscale_back(upscale_back=checked)
