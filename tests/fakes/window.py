"""The whole window on fakes: no engine, no monitor, models from folders with empty weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from app.core.calibration_store import CalibrationStore
from app.core.log import LogRing
from app.core.settings import SettingsStore
from app.engine.catalog import KNOWN_MODELS, CatalogEntry
from app.engine.model_folder import inspect_model_folder
from app.ui.main_window import MainWindow
from app.ui.models.background import Background
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.engine_model import EngineModel
from app.ui.models.form import SessionFile
from app.ui.models.job_control import JobControl
from app.ui.models.jobs_model import JobsModel
from app.ui.models.kept_model import KeptModel
from app.ui.models.layout_file import LayoutFile
from app.ui.models.live_budget import LiveBudget
from app.ui.models.measuring_model import MeasuringModel
from app.ui.models.planning import Planning, PlanningFiles
from app.ui.models.references_model import ReferencesModel
from app.ui.models.request_model import RequestModel
from app.ui.models.results_model import ResultsModel
from app.ui.models.settings_model import SettingsModel
from app.ui.models.status_model import StatusModel
from app.ui.models.studio import Studio
from app.ui.models.token_model import TokenModel
from app.ui.models.window_models import WindowModels
from tests.fakes.described import by_name
from tests.fakes.job_control import FakeJobControl
from tests.fakes.model_folder import DEMO, DEV, KLEIN_4B, make_folder

KNOWN = {known.name: known for known in KNOWN_MODELS}


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCount:
    """A TokenCount that counts words."""

    tokens: int
    limit: int
    cut: str


@dataclass(slots=True, kw_only=True)
class FakeTokenizers:
    """Counts words.

    Attributes:
        limit: Words that are read.
        opened: Folders, in order.
        fails: Whether opening raises.
    """

    limit: int = 512
    opened: list[Path] = field(default_factory=list[Path])
    fails: bool = False

    def open(self, folder: Path) -> Callable[[str], WordCount]:
        self.opened.append(folder)
        if self.fails:
            raise OSError("broken")
        return self.count

    def count(self, prompt: str) -> WordCount:
        words = prompt.split()
        return WordCount(tokens=len(words), limit=self.limit, cut=" ".join(words[self.limit :]))


class FakeCatalog:
    """Demo, dev and klein base in folders of the test; klein 4B known, but not installed."""

    def __init__(self, root: Path, folders: Iterable[str] = ()) -> None:
        self._root = root
        self._folders = tuple(Path(folder) for folder in folders)

    def entries(self) -> tuple[CatalogEntry, ...]:
        made = [
            self._entry(self._root / "demo"),
            self._entry(self._root / "base"),
            self._entry(self._root / "dev"),
            *(self._entry(folder) for folder in self._folders),
        ]
        known = KNOWN["klein-9b"]
        made.append(
            CatalogEntry(label=known.label, folder=None, info=None, error=None, known=known)
        )
        return tuple(made)

    def _entry(self, folder: Path) -> CatalogEntry:
        info = inspect_model_folder(folder)
        known = None if info.name is None else KNOWN[info.name]
        return CatalogEntry(label=info.label, folder=folder, info=info, error=None, known=known)


def make_model_folders(root: Path) -> None:
    """The folders of FakeCatalog."""
    make_folder(root / "demo", DEMO)
    make_folder(root / "base", KLEIN_4B, distilled=False)
    make_folder(root / "dev", DEV, dev=True)


class WindowParts:
    """Everything below a window, on fakes; `close` ends it."""

    def __init__(self, home: Path, *, control: JobControl | None = None) -> None:
        """Make everything.

        Args:
            home: Where files are.
            control: Runs the jobs; None only remembers what it is asked, in `control`.
        """
        self.home = home
        self.models_root = home / "models"
        make_model_folders(self.models_root)
        self.background = Background()
        self.tokenizers = FakeTokenizers()
        self.control = FakeJobControl()
        self.ring = LogRing()
        self.settings = SettingsModel(
            SettingsStore(home / "config" / "settings.json"), home / "pictures", self.background
        )
        self.catalog = CatalogModel(
            lambda folders: FakeCatalog(self.models_root, folders), self.settings, self.background
        )
        self.form = RequestModel(
            SessionFile(home / "data" / "session.json"), self.catalog.defaults, self.background
        )
        self.tokens = TokenModel(self.tokenizers.open, self.background)
        self.engine = EngineModel(self.control if control is None else control)
        self.jobs = JobsModel(self.engine)
        self.results = ResultsModel(self.engine, self.background)
        self.status = StatusModel(self.engine, self.results)
        self.references = ReferencesModel(self.form, self.background, home / "data" / "pasted")
        self.planning = Planning(
            references=self.references,
            form=self.form,
            catalog=self.catalog,
            settings=self.settings,
            background=self.background,
            files=PlanningFiles(
                policy=home / "data" / "memory.json",
                presets=home / "config" / "presets",
                calibration=home / "data" / "calibration.json",
                forecast_cache=home / "cache" / "forecast",
                converted=home / "cache" / "converted",
                embeddings=home / "cache" / "embeddings",
                products=home / "data" / "products.json",
            ),
            coefficients_of=by_name,
        )
        self.kept = KeptModel(
            self.engine,
            self.planning.plans,
            self.background,
            converted=home / "cache" / "converted",
            embeddings=home / "cache" / "embeddings",
        )
        self.live_budget = LiveBudget(self.planning.policy, self.engine)
        self.calibration = CalibrationStore(home / "data" / "calibration.json")
        self.measuring = MeasuringModel(
            self.engine,
            self.control,
            self.catalog,
            self.planning.machine,
            self.background,
            store=self.calibration,
            scratch=home / "cache",
        )
        self.studio = Studio(self.form, self.catalog, self.settings, self.engine, self.planning)

    def window(self) -> MainWindow:
        """The window; the caller keeps it."""
        return MainWindow(self.window_models())

    def window_models(self) -> WindowModels:
        """What a window, or a part of it, is made on."""
        return WindowModels(
            form=self.form,
            references=self.references,
            catalog=self.catalog,
            settings=self.settings,
            tokens=self.tokens,
            studio=self.studio,
            planning=self.planning,
            measuring=self.measuring,
            engine=self.engine,
            status=self.status,
            jobs=self.jobs,
            results=self.results,
            kept=self.kept,
            layout=LayoutFile(self.home / "data" / "window.json"),
            ring=self.ring,
            diagnostics=lambda: "diagnostics of the test",
        )

    def close(self) -> None:
        self.tokens.stop()
        self.results.stop()
        self.form.flush()
        self.settings.flush()
        self.planning.stop()
        self.background.close()
