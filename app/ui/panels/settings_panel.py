"""How to draw it: model, size, steps, guidance, seed, number of images."""

from itertools import pairwise
from pathlib import Path

from PySide6.QtCore import QSignalBlocker, QSize, Qt
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.core.request import MAX_GUIDANCE, MAX_IMAGES, MAX_STEPS
from app.ui import theme
from app.ui.models.catalog_model import CHOICE_ROLE, CatalogModel, ModelChoice
from app.ui.models.form import Form
from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.request_model import RequestModel
from app.ui.widgets.calm_combo import CalmComboBox
from app.ui.widgets.cost_badge import CostBadge
from app.ui.widgets.field import Field
from app.ui.widgets.seed_edit import SeedEdit
from app.ui.widgets.size_edit import Ratio, SizeEdit
from app.ui.widgets.spin import CalmDoubleSpinBox, CalmSpinBox

GUIDANCE_DECIMALS = 3


class SettingsPanel(QWidget):
    """The form below the prompt."""

    def __init__(
        self,
        form: RequestModel,
        catalog: CatalogModel,
        plans: PlanModel,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("settings_panel")
        self._form = form
        self._catalog = catalog
        self._hint = ""
        self._model = CalmComboBox(self)
        self._size = SizeEdit(self)
        self._steps = CalmSpinBox(self)
        self._guidance = CalmDoubleSpinBox(self)
        self._seed = SeedEdit(self)
        self._images = CalmSpinBox(self)
        self._model_field = Field(self.tr("&Model"), self._model, name="model", parent=self)
        self._size_field = Field(self.tr("Si&ze (px)"), self._size, name="size", parent=self)
        self._steps_field = Field(self.tr("&Steps"), self._steps, name="steps", parent=self)
        self._guidance_field = Field(
            self.tr("G&uidance"), self._guidance, name="guidance", parent=self
        )
        self._seed_field = Field(self.tr("See&d"), self._seed, name="seed", parent=self)
        self._images_field = Field(self.tr("&Images"), self._images, name="images", parent=self)
        self._guidance_hint = QLabel(self)
        self._size_cost = CostBadge(
            "size_cost",
            explained=self.tr(
                "What this size needs more than the one the model was made for, if nothing has to "
                "give way: memory at the peak, and time"
            ),
            parent=self,
        )
        self._images_cost = CostBadge(
            "images_cost",
            explained=self.tr(
                "What these images need more than one, if nothing has to give way: memory at the "
                "peak, and time"
            ),
            parent=self,
        )
        self._build_model()
        self._build_numbers()
        self._build_seed_and_size()
        self._lay_out()
        form.changed.connect(self._show_form)
        form.size_noted.connect(self._on_size_noted)
        form.problems_changed.connect(self._on_problems_changed)
        plans.changed.connect(self._show_costs)
        catalog.refreshed.connect(self._on_catalog_refreshed)
        catalog.folder_added.connect(self._on_folder_added)
        catalog.folder_refused.connect(self._model_field.set_message)
        self._show_form(form.form)

    @staticmethod
    def ask_folder(parent: QWidget) -> Path | None:
        """Let the user choose a model folder."""
        chosen = QFileDialog.getExistingDirectory(
            parent, parent.tr("Choose a FLUX.2 model folder (the one with model_index.json)")
        )
        return Path(chosen) if chosen else None

    def add_model_folder(self) -> None:
        """Ask for a folder and add it."""
        folder = self.ask_folder(self)
        if folder is not None:
            self._model_field.set_message("")
            self._catalog.add_folder(folder)

    def set_model_problem(self, text: str) -> None:
        """Say what is wrong with the model; "" when nothing is."""
        self._model_field.set_message(text)

    # Building.

    def _build_model(self) -> None:
        self._model.setObjectName("model_combo")
        self._model.setModel(self._catalog)
        self._model.setPlaceholderText(self.tr("Looking for models…"))
        self._model.setToolTip(self.tr("The FLUX.2 model that draws the picture"))
        self._model.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._model.setMinimumContentsLength(12)
        self._model.activated.connect(self._on_model_activated)
        self._add_folder = QToolButton(self)
        self._add_folder.setObjectName("add_model_folder_button")
        self._add_folder.setIcon(theme.icon("folder-add", "muted"))
        self._add_folder.setIconSize(QSize(16, 16))
        self._add_folder.setAccessibleName(self.tr("Add model folder…"))
        self._add_folder.setToolTip(self.tr("Add model folder…"))
        self._add_folder.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.set_role(self._add_folder, "small")
        self._add_folder.clicked.connect(self.add_model_folder)
        self._model_field.add_beside_label(self._add_folder)
        self._demo_hint = QPushButton(self)
        self._demo_hint.setObjectName("get_model_button")
        self._demo_hint.setToolTip(
            self.tr("Shows where FLUX.2 models can be had and how to add one")
        )
        theme.set_role(self._demo_hint, "link")
        self._demo_hint.hide()

    def _build_numbers(self) -> None:
        self._steps.setObjectName("steps_spin")
        self._steps.setRange(1, MAX_STEPS)
        self._steps.setToolTip(
            self.tr(
                "Denoising steps, 1 to {most}: more take longer, and help base models most."
            ).format(most=MAX_STEPS)
        )
        self._steps.valueChanged.connect(self._form.set_steps)
        self._guidance.setObjectName("guidance_spin")
        self._guidance.setRange(0.0, MAX_GUIDANCE)
        # A picture's own value is shown as it is: 3.25 is not 3.2.
        self._guidance.setDecimals(GUIDANCE_DECIMALS)
        self._guidance.setSingleStep(0.5)
        self._guidance.valueChanged.connect(self._form.set_guidance)
        self._guidance_hint.setObjectName("guidance_hint")
        self._guidance_hint.setWordWrap(True)
        theme.set_role(self._guidance_hint, "muted")
        self._images.setObjectName("images_spin")
        self._images.setRange(1, MAX_IMAGES)
        self._images.setToolTip(
            self.tr(
                "Images made at once, 1 to {most}; each has the seed of the one before plus 1."
            ).format(most=MAX_IMAGES)
        )
        self._images.valueChanged.connect(self._form.set_images)

    def _build_seed_and_size(self) -> None:
        self._seed.seed_typed.connect(self._form.set_seed_text)
        self._seed.dice_thrown.connect(self._form.draw_seed)
        self._seed.lock_toggled.connect(self._on_lock_toggled)
        self._size.width_chosen.connect(self._form.set_width)
        self._size.height_chosen.connect(self._form.set_height)
        self._size.swap_chosen.connect(self._form.swap_size)
        self._size.ratio_chosen.connect(self._on_ratio_chosen)

    def _lay_out(self) -> None:
        self._size_field.add_beside_label(self._size_cost)
        numbers = QHBoxLayout()
        numbers.setSpacing(theme.SPACING_PX)
        for field in (self._steps_field, self._guidance_field, self._images_field):
            field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
            numbers.addWidget(field, 1, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(12)
        model = QVBoxLayout()
        model.setSpacing(0)
        model.addWidget(self._model_field)
        model.addWidget(self._demo_hint)
        layout.addLayout(model)
        layout.addWidget(self._size_field)
        layout.addLayout(numbers)
        layout.addWidget(self._images_cost, 0, Qt.AlignmentFlag.AlignRight)
        layout.addWidget(self._guidance_hint)
        layout.addWidget(self._seed_field)
        # As they stand, from top to bottom; else Tab would follow the order they were made in.
        stops = (
            self._model,
            self._add_folder,
            self._demo_hint,
            self._size,
            self._steps,
            self._guidance,
            self._images,
            self._seed,
        )
        for one, following in pairwise(stops):
            self.setTabOrder(one, following)

    @property
    def get_model_button(self) -> QPushButton:
        """Shown with the demo, and with a model that is not installed: leads to Models."""
        return self._demo_hint

    # Model to view.

    def _show_form(self, form: Form) -> None:
        values = self._form.values()
        choice = self._catalog.choice(form.model)
        self._model.setCurrentIndex(self._catalog.row_of(form.model))
        self._show_way_to_models(choice)
        self._size.set_size(values.width_px, values.height_px)
        for spin, value in ((self._steps, values.steps), (self._images, form.images)):
            with QSignalBlocker(spin):
                spin.setValue(value)
        # With decimals, it writes its text anew even for the same number.
        if self._guidance.value() != values.guidance:
            with QSignalBlocker(self._guidance):
                self._guidance.setValue(values.guidance)
        hint = "" if choice is None or choice.usable else self._catalog.hint(choice)
        if hint != self._hint:
            # Else what was said about a folder just refused stays.
            self._hint = hint
            self._model_field.set_message(hint)
        self._show_guidance(choice)
        if self._form.has_seed:
            self._seed.set_seed(form.seed)
        self._seed.set_locked(locked=form.seed_locked)

    def _show_way_to_models(self, choice: ModelChoice | None) -> None:
        is_demo = choice is not None and choice.is_demo
        is_missing = choice is not None and not choice.is_demo and choice.folder is None
        self._demo_hint.setVisible(is_demo or is_missing)
        self._demo_hint.setText(
            self.tr("Get it under Models")
            if is_missing
            else self.tr("Get a real model under Models")
        )

    def _show_costs(self, state: PlanState) -> None:
        self._size_cost.set_cost(state.size_cost)
        self._images_cost.set_cost(state.images_cost)

    def _show_guidance(self, choice: ModelChoice | None) -> None:
        ignored = choice is not None and choice.guidance == "none"
        self._guidance_field.setVisible(not ignored)
        self._guidance_hint.setVisible(ignored)
        self._guidance_hint.setText(
            self.tr("No guidance scale: this model is distilled and ignores it.")
        )
        passes = (
            self.tr("Above 1 each step takes twice as long.")
            if choice is not None and choice.guidance == "cfg"
            else self.tr("It costs no time.")
        )
        self._guidance.setToolTip(
            self.tr("How closely the picture follows the prompt, 0 to {most}. {passes}").format(
                most=f"{MAX_GUIDANCE:g}", passes=passes
            )
        )

    def _on_catalog_refreshed(self) -> None:
        self._model.setPlaceholderText(self.tr("Choose a model"))
        # What was said about the models as they were; what holds still is said again.
        self._hint = ""
        self._model_field.set_message("")
        self._form.defaults_changed()

    def _on_folder_added(self, model: str) -> None:
        self._model_field.set_message("")
        self._form.set_model(model)

    def _on_size_noted(self, text: str) -> None:
        self._size_field.set_message(text, role="note")

    def _on_problems_changed(self, problems: dict[str, str]) -> None:
        self._seed_field.set_message(problems.get("seed", ""))
        self._steps_field.set_message(problems.get("steps", ""))
        self._guidance_field.set_message(problems.get("guidance", ""))
        self._images_field.set_message(problems.get("images", ""))

    # View to model.

    def _on_model_activated(self, row: int) -> None:
        choice: ModelChoice | None = self._model.itemData(row, CHOICE_ROLE)
        if choice is not None:
            self._model_field.set_message("")
            self._form.set_model(choice.model)

    def _on_ratio_chosen(self, ratio: Ratio) -> None:
        self._form.set_ratio(ratio.across, ratio.down)

    def _on_lock_toggled(self, locked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._form.set_seed_locked(locked=locked)
