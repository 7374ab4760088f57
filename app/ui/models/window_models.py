"""Everything the window is made on, in one hand."""

from collections.abc import Callable
from dataclasses import dataclass

from app.core.log import LogRing
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.engine_model import EngineModel
from app.ui.models.jobs_model import JobsModel
from app.ui.models.kept_model import KeptModel
from app.ui.models.layout_file import LayoutFile
from app.ui.models.measuring_model import MeasuringModel
from app.ui.models.planning import Planning
from app.ui.models.references_model import ReferencesModel
from app.ui.models.request_model import RequestModel
from app.ui.models.results_model import ResultsModel
from app.ui.models.settings_model import SettingsModel
from app.ui.models.status_model import StatusModel
from app.ui.models.studio import Studio
from app.ui.models.token_model import TokenModel


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowModels:
    """Everything the window shows and changes.

    Attributes:
        diagnostics: Makes the text for a bug report.
    """

    form: RequestModel
    references: ReferencesModel
    catalog: CatalogModel
    settings: SettingsModel
    tokens: TokenModel
    studio: Studio
    planning: Planning
    measuring: MeasuringModel
    engine: EngineModel
    status: StatusModel
    jobs: JobsModel
    results: ResultsModel
    kept: KeptModel
    layout: LayoutFile
    ring: LogRing
    diagnostics: Callable[[], str]
