"""What is set once: folders, file names, look, device, what is kept."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QEvent, QSize
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.core.naming import NAME_FIELDS
from app.core.settings import Settings
from app.ui import theme
from app.ui.models.kept_model import KeptModel
from app.ui.models.name_example import NameExample, name_example
from app.ui.models.settings_model import SettingsModel
from app.ui.panels.kept_prompts import KeptPrompts
from app.ui.widgets.field import Field

SHOWN_CHARACTERS = 56
"""Of an example of a file's name: one line of the dialog."""
DEVICES = ("auto", "cpu", "cuda:0", "cuda:1", "xpu:0")


class SettingsDialog(QDialog):
    """A form that is taken over with OK and forgotten with Cancel."""

    def __init__(
        self,
        model: SettingsModel,
        parent: QWidget | None = None,
        *,
        kept: KeptModel | None = None,
    ) -> None:
        """Show the settings.

        Args:
            model: All of them.
            parent: Owner.
            kept: Knows how large the kept prompts are, and clears them.
        """
        super().__init__(parent)
        self.setObjectName("settings_dialog")
        self.setWindowTitle(self.tr("Settings"))
        self.setMinimumWidth(520)
        self._model = model
        self._folder = QLineEdit(self)
        self._template = QLineEdit(self)
        self._theme = QComboBox(self)
        self._device = QComboBox(self)
        self._preview = self._check(
            "preview_check",
            self.tr("Show a &preview while denoising"),
            self.tr("A rough picture after each step; costs next to nothing."),
        )
        self._metadata = self._check(
            "metadata_check",
            self.tr("Write &settings into each PNG"),
            self.tr(
                "Prompt, model and all settings, so that a picture can be made again. "
                "Switch it off to share pictures without them."
            ),
        )
        self._notify = self._check(
            "notify_check",
            self.tr("&Ask for attention when a picture is done"),
            self.tr("Only while the window is not in front."),
        )
        self._keep_prompts = self._check(
            "keep_prompts_check",
            self.tr("&Keep what the text encoder made of each prompt"),
            self.tr(
                "The same prompt starts sooner then, and needs no memory for the text encoder. "
                "Without it no new prompt is kept, and kept ones are not used."
            ),
        )
        self._kept = kept
        self._build()
        self._buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok
            | QDialogButtonBox.StandardButton.Cancel
            | QDialogButtonBox.StandardButton.RestoreDefaults,
            self,
        )
        self._buttons.setObjectName("settings_buttons")
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        restore = self._buttons.button(QDialogButtonBox.StandardButton.RestoreDefaults)
        restore.clicked.connect(self._on_restore_clicked)
        self._lay_out()
        self._show(model.settings)

    @staticmethod
    def ask_folder(parent: QWidget, start: str) -> Path | None:
        """Let the user choose a folder for pictures."""
        chosen = QFileDialog.getExistingDirectory(parent, parent.tr("Choose a folder"), start)
        return Path(chosen) if chosen else None

    def event(self, event: QEvent) -> bool:
        handled = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest and self.isVisible():
            # Lines that wrap are in no smallest size: nothing that is said may be cut off.
            wanted_px = self._column.totalHeightForWidth(self.width())
            self.resize(self.width(), max(self.height(), wanted_px))
        return handled

    def accept(self) -> None:
        if self._example().problem:
            self._template.setFocus()
            return
        folder = self._folder.text().strip()
        if folder and not Path(folder).is_absolute():
            self._folder_field.set_message(
                self.tr("“{folder}” is no full path: choose a folder with the button.").format(
                    folder=folder
                )
            )
            self._folder.setFocus()
            return
        self._model.set_settings(self._read())
        super().accept()

    def _build(self) -> None:
        self._folder.setObjectName("pictures_folder_line")
        self._folder.setToolTip(self.tr("Where new pictures are saved; made when missing"))
        self._folder.setPlaceholderText(str(self._model.default_pictures_folder))
        self._browse = QToolButton(self)
        self._browse.setObjectName("pictures_folder_button")
        self._browse.setIcon(theme.icon("folder"))
        self._browse.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        self._browse.setAccessibleName(self.tr("Choose the pictures folder"))
        self._browse.setToolTip(self.tr("Choose the pictures folder"))
        self._browse.clicked.connect(self._on_browse_clicked)
        self._template.setObjectName("name_template_line")
        names = "\n".join(f"{{{name}}}  {meaning}" for name, meaning in NAME_FIELDS.items())
        self._template.setToolTip(
            self.tr("Name of picture files, without “.png”. Fields:\n{names}").format(names=names)
        )
        self._template.textChanged.connect(self._show_example)
        self._theme.setObjectName("theme_combo")
        self._theme.setToolTip(self.tr("Colours of the window"))
        for label, value in (
            (self.tr("Like the system"), "system"),
            (self.tr("Light"), "light"),
            (self.tr("Dark"), "dark"),
        ):
            self._theme.addItem(label, value)
        self._device.setObjectName("device_combo")
        self._device.setToolTip(
            self.tr(
                "What computes the pictures; a change takes effect at the next start of Headroom."
            )
        )
        labels = {"auto": self.tr("Automatic"), "cpu": self.tr("Processor (CPU, slow)")}
        for device in DEVICES:
            self._device.addItem(labels.get(device, device), device)
        self._device.currentIndexChanged.connect(self._show_from_when)
        self._folder.textChanged.connect(lambda: self._folder_field.set_message(""))

    def _lay_out(self) -> None:
        folder_line = QWidget(self)
        line = QHBoxLayout(folder_line)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        line.addWidget(self._folder, 1)
        line.addWidget(self._browse)
        self.setTabOrder(self._folder, self._browse)
        self.setTabOrder(self._browse, self._template)
        self._template_field = Field(
            self.tr("File &name"), self._template, name="name_template", parent=self
        )
        self._device_field = Field(self.tr("De&vice"), self._device, name="device", parent=self)
        self._folder_field = Field(
            self.tr("&Folder"), folder_line, name="pictures_folder", parent=self
        )
        pictures = self._card(
            self.tr("Pictures"),
            self._folder_field,
            self._template_field,
            self._metadata,
        )
        self._folder.setAccessibleName(self.tr("Folder"))
        pair = QWidget(self)
        both = QHBoxLayout(pair)
        both.setContentsMargins(0, 0, 0, 0)
        both.setSpacing(theme.SPACING_PX * 2)
        both.addWidget(Field(self.tr("&Theme"), self._theme, name="theme", parent=self), 1)
        both.addWidget(self._device_field, 1)
        work = self._card(self.tr("Window and engine"), pair, self._preview, self._notify)
        layout = self._column = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(pictures)
        layout.addWidget(work)
        layout.addWidget(self._kept_card())
        layout.addStretch(1)
        layout.addWidget(self._buttons)

    def _kept_card(self) -> QFrame:
        """Whether prompts are kept, how large they are, and clearing them."""
        title = self.tr("Kept on disk")
        if self._kept is None:
            return self._card(title, self._keep_prompts)
        self._kept_message = QLabel(self)
        self._kept_message.setObjectName("kept_message")
        self._kept_message.setWordWrap(True)
        theme.set_role(self._kept_message, "problem")
        self._kept_message.hide()
        row = KeptPrompts(self._kept, self)
        row.clear_button.clicked.connect(self._kept_message.hide)
        self._kept.refused.connect(self._on_kept_refused)
        self._kept.refresh()
        return self._card(title, self._keep_prompts, row, self._kept_message)

    def _card(self, title: str, *widgets: QWidget) -> QFrame:
        card = QFrame(self)
        theme.set_role(card, "card")
        heading = QLabel(title, card)
        theme.set_role(heading, "title")
        layout = QVBoxLayout(card)
        layout.setContentsMargins(16, 12, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(heading)
        for widget in widgets:
            layout.addWidget(widget)
        return card

    def _check(self, name: str, text: str, tip: str) -> QCheckBox:
        box = QCheckBox(text, self)
        box.setObjectName(name)
        box.setToolTip(tip)
        return box

    def _show(self, settings: Settings) -> None:
        self._folder.setText(settings.pictures_folder)
        self._template.setText(settings.name_template)
        self._theme.setCurrentIndex(self._theme.findData(settings.theme))
        if self._device.findData(settings.device) < 0:
            self._device.addItem(settings.device, settings.device)
        self._device.setCurrentIndex(self._device.findData(settings.device))
        self._preview.setChecked(settings.preview)
        self._metadata.setChecked(settings.metadata)
        self._notify.setChecked(settings.notify_when_done)
        self._keep_prompts.setChecked(settings.keep_embeddings)
        self._show_example()

    def _read(self) -> Settings:
        return replace(
            self._model.settings,
            pictures_folder=self._folder.text().strip(),
            name_template=self._template.text(),
            theme=self._theme.currentData(),
            device=self._device.currentData(),
            preview=self._preview.isChecked(),
            metadata=self._metadata.isChecked(),
            notify_when_done=self._notify.isChecked(),
            keep_embeddings=self._keep_prompts.isChecked(),
        )

    def _example(self) -> NameExample:
        return name_example(self._template.text())

    def _show_example(self) -> None:
        example = self._example()
        if example.problem:
            self._template_field.set_message(example.problem)
        else:
            name = example.name
            if len(name) > SHOWN_CHARACTERS:
                half = SHOWN_CHARACTERS // 2
                name = f"{name[:half]}…{name[-half:]}"
            self._template_field.set_message(
                self.tr("For example: {name}").format(name=name), role="muted"
            )
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(not example.problem)

    def _show_from_when(self) -> None:
        changed = self._device.currentData() != self._model.settings.device
        note = self.tr("At once, or after the running job.") if changed else ""
        self._device_field.set_message(note, role="note")

    def _on_kept_refused(self, sentence: str) -> None:
        self._kept_message.setText(sentence)
        self._kept_message.show()

    def _on_browse_clicked(self) -> None:
        folder = self.ask_folder(self, self._folder.text() or str(self._model.pictures_folder()))
        if folder is not None:
            self._folder.setText(str(folder))

    def _on_restore_clicked(self) -> None:
        self._show(replace(Settings(), model_folders=self._model.settings.model_folders))
