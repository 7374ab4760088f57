"""The presets in one row: choose one, and a menu for everything else."""

from pathlib import Path

from PySide6.QtCore import QSignalBlocker, QSize, Qt, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QMenu,
    QMessageBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.ui import theme
from app.ui.models.presets_model import PresetRow, PresetsModel
from app.ui.widgets.calm_combo import CalmComboBox
from app.ui.widgets.field import Field

SUFFIX = ".toml"


class PresetBar(QWidget):
    """Chooses presets and changes them; asks for names and files."""

    def __init__(self, presets: PresetsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("preset_bar")
        self._presets = presets
        self._combo = CalmComboBox(self)
        self._combo.setObjectName("preset_combo")
        self._combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._combo.setMinimumContentsLength(10)
        self._combo.setToolTip(
            self.tr("Sets everything about memory at once, as it was saved for a GPU")
        )
        self._combo.activated.connect(self._on_activated)
        self._menu = QMenu(self)
        self._save_as = self._action("save_as", self.tr("&Save as…"), self._on_save_as)
        self._save = self._action("save", self.tr("Save &changes"), presets.save_changes)
        self._menu.addSeparator()
        self._rename = self._action("rename", self.tr("&Rename…"), self._on_rename)
        self._default = self._action("default", self.tr("&Use at start on this GPU"), None)
        self._default.setCheckable(True)
        self._default.triggered.connect(self._on_default)
        self._delete = self._action("delete", self.tr("&Delete"), presets.delete)
        self._menu.addSeparator()
        self._action("import", self.tr("&Import…"), self._on_import)
        self._export = self._action("export", self.tr("&Export…"), self._on_export)
        self._button = QToolButton(self)
        self._button.setObjectName("preset_menu_button")
        self._button.setIcon(theme.icon("more", "muted"))
        self._button.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        self._button.setAccessibleName(self.tr("More about presets"))
        self._button.setToolTip(self.tr("Save, rename, delete, import and export presets"))
        self._button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._button.setMenu(self._menu)
        row = QWidget(self)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(6)
        line.addWidget(self._combo, 1)
        line.addWidget(self._button)
        row.setFocusProxy(self._combo)
        self._field = Field(self.tr("P&reset"), row, name="preset", parent=self)
        self._combo.setAccessibleName(self.tr("Preset"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._field)
        self.setFocusProxy(self._combo)
        presets.changed.connect(self._show)
        presets.told.connect(self._on_told)
        presets.failed.connect(self._field.set_message)
        self._show()

    # What is asked; replaced in tests.

    @classmethod
    def ask_name(cls, parent: QWidget, title: str, suggested: str) -> str | None:
        """Let the user type a name."""
        name, ok = QInputDialog.getText(parent, title, parent.tr("Name:"), text=suggested)
        return name.strip() if ok and name.strip() else None

    @classmethod
    def ask_replace(cls, parent: QWidget, name: str) -> bool:
        """Ask whether a preset is to be replaced."""
        answer = QMessageBox.question(
            parent,
            parent.tr("Save preset"),
            parent.tr("There is a preset “{name}” already. Replace it?").format(name=name),
        )
        return answer == QMessageBox.StandardButton.Yes

    @classmethod
    def ask_import(cls, parent: QWidget) -> Path | None:
        """Let the user choose a preset's file."""
        chosen, _ = QFileDialog.getOpenFileName(
            parent, parent.tr("Import preset"), "", parent.tr("Presets (*.toml);;All files (*)")
        )
        return Path(chosen) if chosen else None

    @classmethod
    def ask_export(cls, parent: QWidget, suggested: str) -> Path | None:
        """Let the user choose where a preset's file goes."""
        chosen, _ = QFileDialog.getSaveFileName(
            parent, parent.tr("Export preset"), suggested, parent.tr("Presets (*.toml)")
        )
        return Path(chosen) if chosen else None

    # Inside.

    def _action(self, name: str, text: str, slot: object) -> QAction:
        action = self._menu.addAction(text)
        action.setObjectName(f"action_preset_{name}")
        if callable(slot):
            # Without the "checked" that Qt would pass on.
            action.triggered.connect(lambda _=False: slot())
        return action

    @Slot()
    def _show(self) -> None:
        presets = self._presets
        current, modified = presets.current, presets.modified
        with QSignalBlocker(self._combo):
            self._combo.clear()
            for row in presets.rows:
                self._combo.addItem(self._row_text(row), row.name)
                tip = "\n".join(row.entry.problems) or self._about(row)
                self._combo.setItemData(self._combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
            place = -1 if current is None or modified else self._combo.findData(current.name)
            self._combo.setPlaceholderText(self._placeholder(current))
            self._combo.setCurrentIndex(place)
        own = current is not None and not current.entry.builtin
        self._save.setEnabled(own and modified)
        for action in (self._rename, self._delete):
            action.setEnabled(own)
        for action in (self._default, self._export):
            action.setEnabled(current is not None)
        self._default.setChecked(current is not None and current.is_default)
        if presets.problems:
            self._field.set_message(self._problem_text(), role="note")

    def _placeholder(self, current: PresetRow | None) -> str:
        if current is None:
            return self.tr("No preset")
        return self.tr("{name}, changed").format(name=current.name)

    def _row_text(self, row: PresetRow) -> str:
        return self.tr("{name} (at start)").format(name=row.name) if row.is_default else row.name

    def _about(self, row: PresetRow) -> str:
        preset = row.entry.preset
        where = preset.gpu_name or self.tr("any GPU")
        what = preset.model or self.tr("every model")
        return self.tr("For {gpu}, {model}").format(gpu=where, model=what)

    def _problem_text(self) -> str:
        problems = self._presets.problems
        if len(problems) == 1:
            return problems[0]
        return self.tr("{first} And {n} more in the presets' files.").format(
            first=problems[0], n=len(problems) - 1
        )

    @Slot(str)
    def _on_told(self, text: str) -> None:
        self._field.set_message(text, role="muted")

    def _on_activated(self, index: int) -> None:
        self._field.set_message("")
        self._presets.choose(self._combo.itemData(index))

    def _on_save_as(self) -> None:
        current = self._presets.current
        suggested = self.tr("My preset") if current is None else current.name
        name = self.ask_name(self, self.tr("Save as preset"), suggested)
        if name is None:
            return
        rows = self._presets.rows
        taken = next((row for row in rows if row.name.casefold() == name.casefold()), None)
        replacing = taken is not None and not taken.entry.builtin
        if replacing and not self.ask_replace(self, name):
            return
        self._presets.save_as(name, replacing=replacing)

    def _on_rename(self) -> None:
        current = self._presets.current
        if current is None:
            return
        name = self.ask_name(self, self.tr("Rename preset"), current.name)
        if name is not None and name != current.name:
            self._presets.rename(name)

    @Slot(bool)
    def _on_default(self, checked: bool) -> None:  # noqa: FBT001 - a signal's argument
        self._presets.set_default(is_default=checked)

    def _on_import(self) -> None:
        path = self.ask_import(self)
        if path is not None:
            self._presets.import_file(path)

    def _on_export(self) -> None:
        current = self._presets.current
        if current is None:
            return
        path = self.ask_export(self, current.name + SUFFIX)
        if path is not None:
            self._presets.export(path)
