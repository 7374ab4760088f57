"""Everything about plans and memory choices that the window is made on, and how it is connected."""

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Slot

from app.core.calibration_store import CalibrationStore
from app.core.device import Sample
from app.core.paths import AppPaths
from app.core.preset_store import PresetStore
from app.engine.coefficients import ModelCoefficients, coefficients_for, shipped_coefficients
from app.engine.kept_for_runs import KeptFolders
from app.engine.planner import plan_generation
from app.ui.models.at_hand_model import AtHandModel
from app.ui.models.background import Background
from app.ui.models.catalog_model import CatalogModel, ModelChoice
from app.ui.models.forecast_model import ForecastModel
from app.ui.models.machine_profiles import MachineProfiles
from app.ui.models.plan_model import CoefficientsOf, PlanModel, PlanState
from app.ui.models.policy_file import PolicyFile
from app.ui.models.policy_model import PolicyModel
from app.ui.models.presets_model import PresetsModel
from app.ui.models.references_model import ReferencesModel
from app.ui.models.remedies import FittingModel
from app.ui.models.request_model import RequestModel
from app.ui.models.run_news import RunNews
from app.ui.models.settings_model import SettingsModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningFiles:
    """Where things are kept.

    Attributes:
        policy: Choices about memory, by GPU.
        presets: Folder of the user's presets.
        calibration: What was measured on each GPU.
        forecast_cache: Folder of coefficients the engine has measured.
        converted: Folder of quantized weights.
        embeddings: Folder of prompts' embeddings.
        products: How weights in 8 bits are multiplied.
    """

    policy: Path
    presets: Path
    calibration: Path
    forecast_cache: Path
    converted: Path
    embeddings: Path
    products: Path

    @classmethod
    def of(cls, paths: AppPaths) -> "PlanningFiles":
        """Where they are for this user."""
        return cls(
            policy=paths.data / "memory.json",
            presets=paths.presets_folder,
            calibration=paths.calibration_file,
            forecast_cache=paths.forecast_cache,
            converted=paths.converted_folder,
            embeddings=paths.embeddings_folder,
            products=paths.products_file,
        )


class Planning(QObject):
    """Makes and connects the models of plans, memory choices, presets and the forecast.

    Attributes:
        policy: The choices about memory.
        presets: The presets.
        plans: The plan for what would be made now.
        fitting: What would fit.
        forecast: The plan over time, for the graph.
        news: What happens to the plan during a run.
        machine: The machine as the planner wants it.
    """

    def __init__(
        self,
        *,
        form: RequestModel,
        catalog: CatalogModel,
        settings: SettingsModel,
        background: Background,
        files: PlanningFiles,
        references: ReferencesModel | None = None,
        coefficients_of: CoefficientsOf | None = None,
        parent: QObject | None = None,
    ) -> None:
        """Make all of them.

        Args:
            form: What would be made.
            catalog: The models.
            settings: The settings.
            background: Where files are read and written.
            files: Which files.
            references: The form's reference images.
            coefficients_of: What a model needs; by default what ships or the engine has measured.
            parent: Owner.
        """
        super().__init__(parent)
        self.policy = PolicyModel(PolicyFile(files.policy), background, self)
        self.presets = PresetsModel(PresetStore(files.presets), self.policy, form, background, self)
        self.machine = MachineProfiles(settings, CalibrationStore(files.calibration), self)

        def read_coefficients(choice: ModelChoice) -> ModelCoefficients | None:
            if choice.info is None:
                return shipped_coefficients(choice.model)
            return coefficients_for(choice.info, files.forecast_cache)

        def kept_folders() -> KeptFolders:
            keeps = settings.settings.keep_embeddings
            return KeptFolders(
                converted=files.converted,
                embeddings=files.embeddings if keeps else None,
                products=files.products,
            )

        self.plans = PlanModel(
            form,
            catalog,
            self.policy,
            background,
            make=plan_generation,
            profiles=self.machine,
            coefficients_of=coefficients_of or read_coefficients,
            at_hand=AtHandModel(background, kept_folders, self),
            references=references,
            parent=self,
        )
        self.fitting = FittingModel(
            form, self.policy, background, make=plan_generation, parent=self
        )
        self.forecast = ForecastModel(parent=self)
        self.news = RunNews(self)
        self.machine.changed.connect(self.plans.refresh)
        settings.changed.connect(self.plans.look_again)
        self.plans.changed.connect(self._on_plan_changed)

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent."""
        for model in (self.machine, self.plans, self.forecast, self.news):
            model.on_event(event)

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample of the monitor thread."""
        self.presets.on_sample(sample)
        self.forecast.on_sample(sample)
        self.plans.on_sample(sample)

    def flush(self) -> None:
        """Write what is not yet written; at the end of the app."""
        self.policy.flush()

    def stop(self) -> None:
        """Plan no more, and write what is not yet written; at the end of the app."""
        self.plans.stop()
        self.flush()

    @Slot(object)
    def _on_plan_changed(self, state: PlanState) -> None:
        self.forecast.set_planned(state.plan, lane=state.lane)
