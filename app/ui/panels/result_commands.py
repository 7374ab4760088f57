"""What the commands on a picture do; which picture is the panel's choice."""

from pathlib import Path

from PySide6.QtCore import QObject, QStandardPaths, Qt, Signal, Slot
from PySide6.QtGui import QDrag, QGuiApplication, QPixmap
from PySide6.QtWidgets import QWidget

from app.core.run_report import AnyReport
from app.ui.models.picture_files import is_png, settings_of
from app.ui.models.results_model import Result, ResultsModel
from app.ui.panels.picture_actions import PictureActions
from app.ui.panels.report_dialog import ReportDialog
from app.ui.widgets.image_view import ImageView
from app.ui.widgets.save_picture_dialog import SavePictureDialog
from app.ui.widgets.show_in_folder import show_in_folder

DRAG_IMAGE_PX = 96


class ResultCommands(QObject):
    """Copies, saves, shows, trashes and reuses the current result.

    Signals:
        use_settings: GenerationRequest that makes exactly the picture, and the PictureMemory it
            was made with or None.
        trashed: str, what to tell; the picture is in the trash.
        restored: Result, back from the trash.
        told: str, a sentence about something that did not go as wished.
    """

    use_settings = Signal(object, object)
    trashed = Signal(object)
    restored = Signal(object)
    told = Signal(object)

    def __init__(
        self, actions: PictureActions, results: ResultsModel, view: ImageView, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._actions = actions
        self._results = results
        self._view = view
        self._window = parent
        self._result: Result | None = None
        self._opened: tuple[str, AnyReport] | None = None
        actions.connect_all(
            {
                actions.copy_image: self.copy_image,
                actions.copy_prompt: self.copy_prompt,
                actions.save_as: self.save_as,
                actions.show_in_folder: self.show_in_folder,
                actions.use_settings: self.use_again,
                actions.report: self.show_report,
                actions.trash: self.trash,
                actions.undo_trash: self.undo_trash,
            }
        )
        results.report_added.connect(self._on_report_added)
        self.set_result(None)

    @property
    def result(self) -> Result | None:
        """The result the commands are about."""
        return self._result

    def set_result(self, result: Result | None) -> None:
        """From now on the commands are about this result."""
        self._result, self._opened = result, None
        acts = self._actions
        for action in acts.on_picture:
            action.setEnabled(result is not None)
        if result is not None:
            acts.show_in_folder.setEnabled(result.is_saved)
            acts.copy_prompt.setEnabled(result.request is not None)
            acts.use_settings.setEnabled(result.request is not None)
        acts.report.setEnabled(self._report() is not None)
        acts.undo_trash.setEnabled(self._results.can_undo_trash)

    @Slot()
    def copy_image(self) -> None:
        """The picture to the clipboard."""
        picture = self._view.picture
        if picture is not None:
            QGuiApplication.clipboard().setImage(picture.image)

    @Slot()
    def copy_prompt(self) -> None:
        """Its prompt to the clipboard."""
        if self._result is not None and self._result.request is not None:
            QGuiApplication.clipboard().setText(self._result.request.prompt)

    @Slot()
    def save_as(self) -> None:
        """Its file, settings and all, to where the user says."""
        result = self._result
        if result is None:
            return
        target = SavePictureDialog.ask(self._window, _suggestion(result))
        if target is not None:
            self._results.save_as(result.id, target)

    @Slot()
    def show_in_folder(self) -> None:
        """Its file in the file manager."""
        path = None if self._result is None else self._result.path
        if path is not None and not show_in_folder(path):
            self.told.emit(
                self.tr("No file manager could be opened; the picture is {path}.").format(path=path)
            )

    @Slot()
    def use_again(self) -> None:
        """Its settings, with its own seed, back into the form."""
        result = self._result
        if result is not None and result.request is not None:
            self.use_settings.emit(result.request, self._results.memory_of(result))

    @Slot()
    def show_report(self) -> None:
        """What was planned and measured when it was made, or the file that was opened last."""
        found = self._report()
        if found is not None:
            name, report = found
            dialog = ReportDialog(report, name, self._window)
            dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            dialog.open()

    @Slot()
    def _on_report_added(self) -> None:
        self._actions.report.setEnabled(self._report() is not None)

    def _report(self) -> tuple[str, AnyReport] | None:
        """The picture's name and its report: of the file opened last, else of the result."""
        if self._opened is not None or self._result is None:
            return self._opened
        report = self._results.report_of(self._result)
        return None if report is None else (self._result.name, report)

    @Slot(object)
    def use_file(self, path: Path) -> None:
        """The settings in a picture's file into the form; its report can be looked at."""
        found = settings_of(path)
        report = None if found is None else found.report
        self._opened = None if report is None else (path.name, report)
        self._actions.report.setEnabled(self._report() is not None)
        if found is not None:
            self.use_settings.emit(found.request, found.memory)
            if found.references_lost:
                self.told.emit(found.references_lost)
            return
        self.told.emit(self._without_settings(path).format(name=path.name))

    def _without_settings(self, path: Path) -> str:
        if not path.is_file():
            return self.tr("{name} is not there, or cannot be read.")
        if not is_png(path):
            return self.tr("{name} is no PNG picture, or it is damaged: settings are in PNG files.")
        return self.tr(
            "{name} has no Headroom settings: it was made elsewhere, or they were left out "
            "when it was saved. To have a picture followed, drop it below the prompt."
        )

    @Slot()
    def trash(self) -> None:
        """Its file to the system's trash."""
        result = self._result
        if result is not None and self._results.trash(result.id):
            text = (
                self.tr("{name} is in the trash.")
                if result.is_saved
                else self.tr("{name} is off the list; it was not in a file.")
            )
            self.trashed.emit(text.format(name=result.name))

    @Slot()
    def undo_trash(self) -> None:
        """The last picture trashed back to where it was."""
        result = self._results.undo_trash()
        if result is not None:
            self.restored.emit(result)

    @Slot()
    def drag(self) -> None:
        """Let the user pull its file out of the window."""
        result = self._result
        if result is None:
            return
        row = self._results.index(self._results.row_of(result.id))
        drag = QDrag(self._view)
        drag.setMimeData(self._results.mimeData([row]))
        thumbnail = row.data(Qt.ItemDataRole.DecorationRole)
        if thumbnail is not None:
            edge = Qt.AspectRatioMode.KeepAspectRatio
            drag.setPixmap(QPixmap.fromImage(thumbnail.scaled(DRAG_IMAGE_PX, DRAG_IMAGE_PX, edge)))
        run_drag(drag)


def run_drag(drag: QDrag) -> None:
    """Blocks until the user lets go; a function of its own so that tests need no mouse."""
    drag.exec(Qt.DropAction.CopyAction)


def _suggestion(result: Result) -> Path:
    if result.path is not None:
        return result.path
    location = QStandardPaths.StandardLocation.PicturesLocation
    return Path(QStandardPaths.writableLocation(location)) / result.name
