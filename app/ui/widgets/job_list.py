"""The list of jobs: one can be chosen, waiting ones can be pulled to another place."""

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QDropEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QListView, QWidget

from app.core.jobs import Job
from app.ui.models.jobs_model import JOB_ROLE, JobsModel
from app.ui.widgets.empty_state import paint_empty_state
from app.ui.widgets.job_delegate import JobDelegate


class JobList(QListView):
    """Rows of a JobsModel.

    Signals:
        job_dropped: str, int: the job that was pulled, and the row it was dropped before.
    """

    job_dropped = Signal(object, object)

    def __init__(self, jobs: JobsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("job_list")
        self.setAccessibleName(self.tr("Queue of pictures"))
        self.setModel(jobs)
        self.setItemDelegate(JobDelegate(jobs, self))
        self.setMouseTracking(True)
        self.setSelectionMode(QListView.SelectionMode.SingleSelection)
        self.setDragDropMode(QListView.DragDropMode.InternalMove)
        self.setDropIndicatorShown(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)

    def current_job(self) -> Job | None:
        """The chosen job."""
        index = self.currentIndex()
        return index.data(JOB_ROLE) if index.isValid() else None

    def dropEvent(self, event: QDropEvent) -> None:
        job = self.current_job()
        position = event.position().toPoint()
        index = self.indexAt(position)
        row = index.row() if index.isValid() else self.model().rowCount()
        if index.isValid() and position.y() > self.visualRect(index).center().y():
            row += 1
        # The queue's owner moves the job and tells the new order. Were the drop a move for Qt,
        # the view would remove the row on its own.
        event.setDropAction(Qt.DropAction.IgnoreAction)
        event.accept()
        if job is not None:
            self.job_dropped.emit(job.id, row)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        # Rows with a sentence are as high as their width makes it.
        self.scheduleDelayedItemsLayout()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.model().rowCount() == 0:
            painter = QPainter(self.viewport())
            paint_empty_state(
                painter,
                QRectF(self.viewport().rect()),
                self.tr("The queue is empty"),
                self.tr("Press Generate while a picture is being made, and the next waits here."),
                icon="queue",
            )
            painter.end()
