"""The queue: what runs, what waits, what ended, and what the user wants done about it."""

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from app.core.jobs import JobState
from app.ui import theme
from app.ui.models.engine_model import EngineModel
from app.ui.models.jobs_model import JobsModel
from app.ui.widgets.job_list import JobList
from app.ui.widgets.message_bar import MessageBar

_ENDED = (JobState.FINISHED, JobState.CANCELLED, JobState.FAILED)


class QueuePanel(QFrame):
    """The jobs, and commands on the chosen one.

    Attributes:
        pause: Pauses the queue, or resumes it when it is paused.
        move_up: The chosen waiting job runs one place earlier.
        move_down: The chosen waiting job runs one place later.
        cancel: Stops the chosen running job, takes back a waiting one.
        retry: Queues the chosen ended job's settings again.
        remove: Takes the chosen job off the list.
        clear_ended: Takes all ended jobs off the list.
        cancel_waiting: Takes back all jobs that wait.
    """

    def __init__(self, engine: EngineModel, jobs: JobsModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._jobs = jobs
        self.setObjectName("queue_panel")
        self.setAccessibleName(self.tr("Queue"))
        theme.set_role(self, "card")
        self._summary = QLabel(self)
        self._summary.setObjectName("queue_summary")
        theme.set_role(self._summary, "muted")
        self._from_last_time = MessageBar("queue_from_last_time", self)
        self._list = JobList(jobs, self)
        self._make_actions()
        self._lay_out()
        self._connect()
        self._refresh()

    def _make_actions(self) -> None:
        tr = self.tr
        self.pause = self._action("pause", "pause", tr("&Pause queue"), "")
        self._resume = self._action("resume", "play", tr("Resume"), tr("Start the jobs that wait"))
        self.move_up = self._action(
            "move_up", "up", tr("Run &earlier"), tr("Run the chosen job earlier"), "Alt+Up"
        )
        self.move_down = self._action(
            "move_down", "down", tr("Run &later"), tr("Run the chosen job later"), "Alt+Down"
        )
        self.cancel = self._action(
            "cancel", "stop", tr("&Cancel"), tr("Stop the chosen job; it stays on the list")
        )
        self.retry = self._action(
            "retry", "reset", tr("Try &again"), tr("Queue the chosen job's settings again")
        )
        self.remove = self._action(
            "remove",
            "close",
            tr("&Remove"),
            tr("Take the chosen job off the list; its pictures stay"),
            QKeySequence(QKeySequence.StandardKey.Delete).toString(),
        )
        self.clear_ended = self._action(
            "clear_ended",
            "clear",
            tr("Clear &ended"),
            tr("Take all ended jobs off the list; their pictures stay"),
        )

        self.cancel_waiting = self._action(
            "cancel_waiting",
            "stop",
            tr("Cancel all &waiting"),
            tr("Take back all jobs that wait; they stay on the list, to be tried again"),
        )

    def _action(self, name: str, icon: str, text: str, tip: str, shortcut: str = "") -> QAction:
        action = QAction(theme.icon(icon), text, self)
        action.setObjectName(f"action_{name}")
        if shortcut:
            action.setShortcut(QKeySequence(shortcut))
            action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            tip = f"{tip} ({keys})"
        action.setToolTip(tip)
        return action

    def _lay_out(self) -> None:
        gap = theme.SPACING_PX
        head = QHBoxLayout()
        head.setSpacing(gap)
        head.addWidget(self._summary, 1)
        head.addWidget(self._button(self.pause, with_text=True))
        foot = QHBoxLayout()
        foot.setSpacing(gap // 2)
        for action in self._on_job:
            foot.addWidget(self._button(action))
        foot.addStretch(1)
        foot.addWidget(self._button(self.clear_ended))
        column = QVBoxLayout(self)
        column.setContentsMargins(gap, gap, gap, gap)
        column.setSpacing(gap)
        column.addLayout(head)
        column.addWidget(self._from_last_time)
        column.addWidget(self._list, 1)
        column.addLayout(foot)

    @property
    def _on_job(self) -> tuple[QAction, ...]:
        return (self.move_up, self.move_down, self.cancel, self.retry, self.remove)

    def _button(self, action: QAction, *, with_text: bool = False) -> QToolButton:
        button = QToolButton(self)
        button.setDefaultAction(action)
        button.setObjectName(action.objectName().replace("action_", "queue_"))
        button.setAccessibleName(action.text().replace("&", ""))
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        if with_text:
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        theme.set_role(button, "flat")
        return button

    def _connect(self) -> None:
        engine = self._engine
        for action, handler in {
            self.pause: self._on_pause,
            self._resume: engine.resume,
            self.move_up: self._on_move_up,
            self.move_down: self._on_move_down,
            self.cancel: self._on_cancel,
            self.retry: self._on_retry,
            self.remove: self._on_remove,
            self.clear_ended: engine.clear_ended,
            self.cancel_waiting: engine.cancel_waiting,
        }.items():
            action.triggered.connect(handler)
        self._list.addActions(list(self._on_job))
        self._list.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self._list.job_dropped.connect(self._on_job_dropped)
        self._list.selectionModel().currentChanged.connect(self._refresh)
        # After the model's own slot, which was connected first.
        engine.queue_changed.connect(self._refresh)

    @Slot()
    def _refresh(self) -> None:
        """Say how the queue is, and enable what can be done."""
        job = self._list.current_job()
        state = None if job is None else job.state
        place = -1 if job is None else self._jobs.queued_index(job.id)
        waiting = self._jobs.count(JobState.QUEUED)
        self.move_up.setEnabled(place > 0)
        self.move_down.setEnabled(0 <= place < waiting - 1)
        self.cancel.setEnabled(state in (JobState.QUEUED, JobState.RUNNING))
        self.retry.setEnabled(state in _ENDED)
        self.remove.setEnabled(state is JobState.QUEUED or state in _ENDED)
        self.clear_ended.setEnabled(self._jobs.count(*_ENDED) > 0)
        self.cancel_waiting.setEnabled(waiting > 0)
        self._show_pause()
        self._summary.setText(self._summary_text(waiting))

    def _show_pause(self) -> None:
        paused = self._engine.paused
        self.pause.setIcon(theme.icon("play" if paused else "pause"))
        self.pause.setText(self.tr("&Resume queue") if paused else self.tr("&Pause queue"))
        self.pause.setToolTip(
            self.tr("Start the jobs that wait")
            if paused
            else self.tr("Start no further job; the running one goes on")
        )
        left = self._engine.jobs_from_last_time
        if not left:
            self._from_last_time.hide()
        else:
            text = (
                self.tr("1 job from last time is waiting.")
                if left == 1
                else self.tr("{n} jobs from last time are waiting.").format(n=left)
            )
            if not self._from_last_time.isVisibleTo(self) or self._from_last_time.text != text:
                self._from_last_time.show_message(text, actions=[self._resume])

    def _summary_text(self, waiting: int) -> str:
        parts: list[str] = []
        if self._engine.paused:
            parts.append(self.tr("Paused"))
        if self._jobs.count(JobState.RUNNING):
            parts.append(self.tr("1 running"))
        if waiting:
            parts.append(self.tr("{n} waiting").format(n=waiting))
        return " · ".join(parts) or self.tr("Nothing waits")

    @Slot()
    def _on_pause(self) -> None:
        if self._engine.paused:
            self._engine.resume()
        else:
            self._engine.pause()

    @Slot()
    def _on_move_up(self) -> None:
        self._move_by(-1)

    @Slot()
    def _on_move_down(self) -> None:
        self._move_by(1)

    def _move_by(self, places: int) -> None:
        job = self._list.current_job()
        if job is not None:
            self._engine.move(job.id, self._jobs.queued_index(job.id) + places)

    @Slot(object, object)
    def _on_job_dropped(self, job_id: str, row: int) -> None:
        place = self._jobs.drop_index(job_id, row)
        if place >= 0:
            self._engine.move(job_id, place)

    @Slot()
    def _on_cancel(self) -> None:
        job = self._list.current_job()
        if job is not None:
            self._engine.cancel(job.id)

    @Slot()
    def _on_retry(self) -> None:
        job = self._list.current_job()
        if job is not None:
            self._engine.retry(job.id)

    @Slot()
    def _on_remove(self) -> None:
        job = self._list.current_job()
        if job is not None:
            self._engine.remove(job.id)
