"""The windows that open from the menus; made when first asked for."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget

from app.core.errors import ErrorInfo
from app.core.log import LogRing
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.kept_model import KeptModel
from app.ui.models.measuring_model import MeasuringModel
from app.ui.models.plan_model import PlanModel
from app.ui.models.settings_model import SettingsModel
from app.ui.panels.about_dialog import AboutDialog
from app.ui.panels.log_view import LogView
from app.ui.panels.measure_dialog import MeasureDialog
from app.ui.panels.models_dialog import ModelsDialog
from app.ui.panels.settings_dialog import SettingsDialog
from app.ui.panels.shortcuts_dialog import ShortcutsDialog
from app.ui.panels.text_dialog import TextDialog, error_text


class WindowDialogs:
    """Opens each window once: asked again, it comes to the front. None of them blocks the work."""

    def __init__(
        self,
        parent: QWidget,
        *,
        settings: SettingsModel,
        catalog: CatalogModel,
        plans: PlanModel,
        kept: KeptModel,
        measuring: MeasuringModel,
        ring: LogRing,
        actions: Callable[[], Iterable[QAction]],
    ) -> None:
        """Keep what the windows need; `actions` are those whose keys are listed."""
        self._parent = parent
        self._settings = settings
        self._catalog = catalog
        self._plans = plans
        self._kept = kept
        self._measuring = measuring
        self._ring = ring
        self._actions = actions
        self._open: dict[object, QDialog] = {}

    def show_settings(self) -> None:
        """What is set once."""
        self._show(
            "settings", lambda: SettingsDialog(self._settings, self._parent, kept=self._kept)
        )

    def show_models(self, model: str = "") -> None:
        """Which models there are; one of them to begin with."""
        dialog = self._show(
            "models",
            lambda: ModelsDialog(self._catalog, self._parent, plans=self._plans, kept=self._kept),
        )
        if isinstance(dialog, ModelsDialog) and model:
            dialog.choose(model)

    def show_measure(self) -> None:
        """How fast the machine is."""
        self._show("measure", lambda: MeasureDialog(self._measuring, self._parent))

    def show_log(self) -> None:
        """What was logged."""
        self._show("log", lambda: LogView(self._ring, self._parent))

    def show_about(self) -> None:
        """Versions and licences."""
        self._show("about", lambda: AboutDialog(self._parent))

    def show_shortcuts(self) -> None:
        """All keys."""
        self._show("shortcuts", lambda: ShortcutsDialog(self._actions(), self._parent))

    def show_error(self, error: ErrorInfo) -> None:
        """Everything known about an error; another error of the same kind has its own window."""
        self._show(
            error,
            lambda: TextDialog(
                title=self._parent.tr("What went wrong"),
                heading=error.message,
                text=error_text(error),
                parent=self._parent,
            ),
        )

    def close_all(self) -> None:
        """Close what is open."""
        for dialog in tuple(self._open.values()):
            dialog.close()

    def _show(self, key: object, make: Callable[[], QDialog]) -> QDialog:
        dialog = self._open.get(key)
        if dialog is None:
            dialog = make()
            dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            self._open[key] = dialog
            dialog.destroyed.connect(lambda: self._open.pop(key, None))
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()
        return dialog


def ask_picture(parent: QWidget, folder: Path) -> Path | None:
    """Let the user choose a picture whose settings are to come back."""
    chosen, _ = QFileDialog.getOpenFileName(
        parent,
        parent.tr("Choose a picture made with Headroom"),
        str(folder),
        parent.tr("Pictures (*.png)"),
    )
    return Path(chosen) if chosen else None


def open_folder(folder: Path) -> bool:
    """Show a folder in the file manager."""
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
