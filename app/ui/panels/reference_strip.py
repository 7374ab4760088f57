"""The reference images below the prompt: add, look, move, remove."""

from pathlib import Path

from PySide6.QtCore import QMimeData, QSize, Qt, Signal, Slot
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QGuiApplication,
)
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.core.request import MAX_REFERENCES, REFERENCE_SUFFIXES
from app.ui import theme
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.plan_model import PlanModel, PlanState
from app.ui.models.reference_notes import reference_note
from app.ui.models.references_model import ReferencesModel
from app.ui.models.request_model import RequestModel
from app.ui.widgets.picture_mime import (
    holds_pictures,
    picture_files,
    picture_without_file,
    row_of,
)
from app.ui.widgets.reference_row import ReferenceRow


class ReferenceStrip(QFrame):
    """One row per reference image; only a button while there is none.

    Signals:
        told(str): A sentence about what was done, or could not be.
    """

    told = Signal(str)

    def __init__(
        self,
        references: ReferencesModel,
        form: RequestModel,
        catalog: CatalogModel,
        plans: PlanModel,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("reference_strip")
        self.setAccessibleName(self.tr("Reference images"))
        self.setAcceptDrops(True)
        theme.set_role(self, "references")
        self._references, self._form = references, form
        self._catalog, self._plans = catalog, plans
        self._rows: list[ReferenceRow] = []
        self._focus_row: int | None = None
        self._title = QLabel(self.tr("Reference images"), self)
        self._title.setObjectName("reference_title")
        theme.set_role(self._title, "field")
        self._count = QLabel(self)
        self._count.setObjectName("reference_count")
        theme.set_role(self._count, "muted")
        self._add = QPushButton(self)
        self._add.setObjectName("reference_add")
        self._add.setIcon(theme.icon("image", "accent"))
        self._add.setIconSize(QSize(theme.ICON_PX - 2, theme.ICON_PX - 2))
        self._add.setToolTip(
            self.tr(
                "A picture that the new one is to follow: choose a PNG, JPEG or WebP file, "
                "drop it here, or paste it"
            )
        )
        theme.set_role(self._add, "link")
        self._add.clicked.connect(self.choose)
        self._note = QLabel(self)
        self._note.setObjectName("reference_note")
        self._note.setWordWrap(True)
        theme.set_role(self._note, "note")
        head = QHBoxLayout()
        head.setSpacing(theme.SPACING_PX)
        head.addWidget(self._title)
        head.addStretch(1)
        head.addWidget(self._count)
        self._list = QVBoxLayout()
        self._list.setSpacing(4)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addLayout(self._list)
        column.addWidget(self._add, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._note)
        references.rows_changed.connect(self._on_rows_changed)
        references.dataChanged.connect(self._show_all)
        references.told.connect(self.told)
        plans.changed.connect(self._on_plan_changed)
        form.changed.connect(self._on_form_changed)
        catalog.refreshed.connect(self._on_form_changed)
        self._on_rows_changed()

    @property
    def stops(self) -> tuple[QWidget, ...]:
        """What Tab comes to, in order; rows that come later take their places among them."""
        return (*self._rows, self._add)

    @Slot()
    def choose(self) -> None:
        """Let the user choose files."""
        if self._references.can_add:
            self._take(ask_pictures(self))

    def take_pasted(self) -> bool:
        """Take the picture that is on the clipboard.

        Returns:
            Whether there is one, and no text that an editor could want instead.
        """
        data = QGuiApplication.clipboard().mimeData()
        if not holds_pictures(data) or (data.hasText() and not data.hasUrls()):
            return False
        self._take_mime(data)
        return True

    # What is shown.

    @Slot()
    def _on_rows_changed(self) -> None:
        rows = self._references.references
        had_focus = next((row.row for row in self._rows if row.hasFocus()), None)
        while len(self._rows) > len(rows):
            row = self._rows.pop()
            self._list.removeWidget(row)
            row.hide()
            # It lives until the event loop turns; until then it must not pass for its successor.
            row.setObjectName("")
            row.deleteLater()
        while len(self._rows) < len(rows):
            self._rows.append(self._new_row(len(self._rows)))
        for widget in (self._title, self._count):
            widget.setVisible(bool(rows))
        self._count.setText(self.tr("{n} of {most}").format(n=len(rows), most=MAX_REFERENCES))
        self._add.setText(
            self.tr("Add another reference image") if rows else self.tr("Add reference image")
        )
        self._add.setEnabled(self._references.can_add)
        self._show_all()
        self._on_form_changed()
        self._give_focus(had_focus if self._focus_row is None else self._focus_row)

    def _new_row(self, number: int) -> ReferenceRow:
        row = ReferenceRow(number, self)
        row.remove_asked.connect(self._on_remove_asked)
        row.move_asked.connect(self._on_move_asked)
        row.neighbour_asked.connect(self._give_focus)
        self._list.addWidget(row)
        self.setTabOrder(self._rows[-1] if self._rows else self._title, row)
        self.setTabOrder(row, self._add)
        return row

    @Slot()
    def _show_all(self) -> None:
        references = self._references.references
        for row, reference in zip(self._rows, references, strict=False):
            row.show_reference(reference, count=len(references))
        self._on_plan_changed(self._plans.state)

    @Slot(object)
    def _on_plan_changed(self, state: PlanState) -> None:
        costs = state.reference_costs
        for row in self._rows:
            row.set_cost(costs[row.row] if len(costs) == len(self._rows) else None)

    @Slot()
    def _on_form_changed(self) -> None:
        choice = self._catalog.choice(self._form.form.model)
        note = reference_note(choice, len(self._rows))
        self._note.setText(note)
        self._note.setVisible(bool(note))

    # What the user does.

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if self._own_row(event) is not None or holds_pictures(event.mimeData()):
            event.acceptProposedAction()
            self._mark(on=True)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        super().dragLeaveEvent(event)
        self._mark(on=False)

    def dropEvent(self, event: QDropEvent) -> None:
        self._mark(on=False)
        event.acceptProposedAction()
        before = self._place_at(event.position().y())
        row = self._own_row(event)
        if row is None:
            self._take_mime(event.mimeData(), before=before)
            self._tell_of_settings(event.mimeData())
            return
        # Its own row is taken out first, which moves everything behind it up by one.
        self._on_move_asked(row, before - 1 if before > row else before)

    def _take_mime(self, data: QMimeData, *, before: int | None = None) -> None:
        files = picture_files(data)
        image = picture_without_file(data)
        if files:
            self._take(files, before=before)
        elif image is not None:
            self._references.add_image(image)
        else:
            self.told.emit(
                self.tr("There is no picture in it: reference images are PNG, JPEG or WebP files.")
            )

    def _tell_of_settings(self, data: QMimeData) -> None:
        """A picture made here may have been meant otherwise."""
        if any(path.suffix.lower() == ".png" for path in picture_files(data)):
            self.told.emit(
                self.tr(
                    "It is a reference image now. To bring a picture's settings back, drop it on "
                    "the large picture instead."
                )
            )

    def _take(self, files: list[Path], *, before: int | None = None) -> None:
        if files:
            self._references.add(files, before=before)

    @Slot(int)
    def _on_remove_asked(self, row: int) -> None:
        had_focus = self.isAncestorOf(QWidget.focusWidget(self.window()) or self)
        self._focus_row = row if had_focus else None
        self._references.remove(row)
        self._focus_row = None

    @Slot(int, int)
    def _on_move_asked(self, row: int, to: int) -> None:
        self._focus_row = to
        self._references.move(row, to)
        self._focus_row = None

    @Slot(int)
    def _give_focus(self, row: int | None) -> None:
        """The row, or the button where there is none so far down; None leaves the focus."""
        if row is None or row < 0:
            return
        if row < len(self._rows):
            self._rows[row].setFocus()
        elif self._rows and not self._add.isEnabled():
            self._rows[-1].setFocus()
        else:
            self._add.setFocus()

    def _place_at(self, y: float) -> int:
        """Before which row something is dropped."""
        return sum(row.geometry().center().y() < y for row in self._rows)

    def _own_row(self, event: QDropEvent) -> int | None:
        return row_of(event.mimeData()) if event.source() in self._rows else None

    def _mark(self, *, on: bool) -> None:
        theme.set_role(self, "references-target" if on else "references")


def ask_pictures(parent: QWidget) -> list[Path]:
    """Files the user chooses; a function of its own so that tests need no dialog."""
    suffixes = " ".join(f"*{suffix}" for suffix in REFERENCE_SUFFIXES)
    files, _filter = QFileDialog.getOpenFileNames(
        parent,
        parent.tr("Add reference images"),
        "",
        parent.tr("Pictures ({suffixes})").format(suffixes=suffixes),
    )
    return [Path(file) for file in files]
