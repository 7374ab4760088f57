"""The models: which there are, where to get one, which folders are known, what is kept of them."""

from pathlib import Path

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListView,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.ui import theme
from app.ui.models.catalog_model import CHOICE_ROLE, CatalogModel, EveryRowEnabled, ModelChoice
from app.ui.models.kept_model import KeptModel
from app.ui.models.plan_model import PlanModel
from app.ui.models.plan_words import model_words
from app.ui.panels.kept_section import KeptSection
from app.ui.widgets.verdict_icon import verdict_icon
from app.ui.widgets.wrapping_label import WrappingLabel


class ModelsDialog(QDialog):
    """A list of models with what can be done about the one chosen in it."""

    def __init__(
        self,
        catalog: CatalogModel,
        parent: QWidget | None = None,
        *,
        plans: PlanModel | None = None,
        kept: KeptModel | None = None,
    ) -> None:
        """Show the models.

        Args:
            catalog: All of them.
            parent: Owner.
            plans: Tells whether a model would fit on this machine.
            kept: What was made of the models and can be made again.
        """
        super().__init__(parent)
        self.setObjectName("models_dialog")
        self.setWindowTitle(self.tr("Models"))
        self.resize(620, 460 if kept is None else 640)
        self._catalog = catalog
        self._plans = plans
        self._list = QListView(self)
        self._list.setObjectName("models_list")
        self._list.setAccessibleName(self.tr("Models"))
        self._list.setToolTip(self.tr("Models that are here, and those that can be had"))
        # All rows can be chosen here: one that is not installed says how to get it.
        self._rows = EveryRowEnabled(self)
        self._rows.setSourceModel(catalog)
        self._list.setModel(self._rows)
        self._detail = WrappingLabel(self)
        self._detail.setObjectName("models_detail")
        self._detail.setMinimumHeight(54)
        self._detail.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._fit = QLabel(self)
        self._fit.setObjectName("models_fit")
        self._fit.setWordWrap(True)
        self._fit_icon = QLabel(self)
        self._message = WrappingLabel(self)
        self._message.setObjectName("models_message")
        self._message.hide()
        self._add = self._button(
            "models_add",
            "folder-add",
            self.tr("&Add model folder…"),
            self.tr("Choose a folder in diffusers layout, the one with model_index.json"),
        )
        self._add.clicked.connect(self._on_add_clicked)
        self._remove = self._button(
            "models_remove",
            "trash",
            self.tr("&Remove from list"),
            self.tr("Forget this folder; nothing on the disk is touched"),
        )
        self._remove.clicked.connect(self._on_remove_clicked)
        self._web = self._button(
            "models_web",
            "export",
            self.tr("Open &web page"),
            self.tr("Open the page where this model can be had in your browser"),
        )
        self._web.clicked.connect(self._on_web_clicked)
        self._kept = None if kept is None else KeptSection(kept, self)
        self._lay_out()
        self._list.selectionModel().currentChanged.connect(self._show_row)
        catalog.modelReset.connect(self._show_row)
        catalog.folder_added.connect(self._on_folder_added)
        catalog.folder_refused.connect(self._on_folder_refused)
        if plans is not None:
            plans.machine_changed.connect(self._show_fit)
        self._list.setCurrentIndex(self._rows.index(0, 0))
        self._show_row()

    @staticmethod
    def ask_folder(parent: QWidget) -> Path | None:
        """Let the user choose a model folder."""
        chosen = QFileDialog.getExistingDirectory(
            parent, parent.tr("Choose a FLUX.2 model folder (the one with model_index.json)")
        )
        return Path(chosen) if chosen else None

    def choose(self, model: str) -> None:
        """Show what there is to know about this one."""
        row = self._catalog.row_of(model)
        if row >= 0:
            self._list.setCurrentIndex(self._rows.index(row, 0))

    def _lay_out(self) -> None:
        intro = QLabel(
            self.tr(
                "Headroom runs FLUX.2 klein and dev models from folders in diffusers layout. "
                "Download one, then add its folder: it is used where it lies, nothing is copied."
            ),
            self,
        )
        intro.setWordWrap(True)
        theme.set_role(intro, "muted")
        theme.set_role(self._message, "problem")
        actions = QHBoxLayout()
        actions.setSpacing(theme.SPACING_PX)
        actions.addWidget(self._add)
        actions.addWidget(self._remove)
        actions.addWidget(self._web)
        actions.addStretch(1)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.setObjectName("models_buttons")
        buttons.rejected.connect(self.reject)
        fit = QHBoxLayout()
        fit.setSpacing(theme.SPACING_PX)
        fit.addWidget(self._fit_icon, 0, Qt.AlignmentFlag.AlignTop)
        fit.addWidget(self._fit, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(intro)
        layout.addWidget(self._list, 1)
        layout.addWidget(self._detail)
        layout.addLayout(fit)
        layout.addWidget(self._message)
        layout.addLayout(actions)
        if self._kept is not None:
            layout.addWidget(self._kept)
        layout.addWidget(buttons)

    def _button(self, name: str, icon: str, text: str, tip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setObjectName(name)
        button.setIcon(theme.icon(icon))
        button.setIconSize(QSize(16, 16))
        button.setToolTip(tip)
        button.setAutoDefault(False)
        return button

    def _choice(self) -> ModelChoice | None:
        return self._list.currentIndex().data(CHOICE_ROLE)

    def _show_row(self) -> None:
        choice = self._choice()
        self._detail.setText("" if choice is None else self._catalog.hint(choice))
        self._remove.setEnabled(
            choice is not None and choice.folder is not None and not choice.is_demo
        )
        self._web.setEnabled(choice is not None and bool(choice.source))
        self._show_fit()

    def _show_fit(self) -> None:
        """Whether the model would fit on this machine, installed or not."""
        choice = self._choice()
        plans = self._plans
        plan = None if choice is None or plans is None else plans.plan_of_model(choice)
        self._fit.setVisible(plan is not None)
        self._fit_icon.setVisible(plan is not None)
        if plan is None or plans is None:
            return
        icon, colour = verdict_icon(plan.verdict)
        size = QSize(theme.ICON_PX, theme.ICON_PX)
        self._fit_icon.setPixmap(theme.icon(icon, colour).pixmap(size, self.devicePixelRatioF()))
        self._fit.setText(model_words(plan, on_cpu=plans.on_cpu))

    def _on_add_clicked(self) -> None:
        folder = self.ask_folder(self)
        if folder is not None:
            self._message.hide()
            self._catalog.add_folder(folder)

    def _on_remove_clicked(self) -> None:
        choice = self._choice()
        if choice is not None and choice.folder is not None:
            self._catalog.remove_folder(choice.folder)

    def _on_web_clicked(self) -> None:
        choice = self._choice()
        if choice is not None:
            open_web_page(choice.source)

    def _on_folder_added(self, model: str) -> None:
        self._message.hide()
        self._list.setCurrentIndex(self._rows.index(self._catalog.row_of(model), 0))

    def _on_folder_refused(self, text: str) -> None:
        self._message.setText(text)
        self._message.show()


def open_web_page(address: str) -> None:
    """Open a page in the user's browser."""
    QDesktopServices.openUrl(QUrl(address))
