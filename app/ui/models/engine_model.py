"""What the engine is doing, as the window sees it: one writer, many readers."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from app.conductor.tried_again import once_more
from app.core.events import (
    CalibrationDone,
    Converting,
    EngineReady,
    EngineState,
    EngineStateChanged,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Loading,
    Notice,
    PhaseFinished,
    PhaseStarted,
    QueueChanged,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import DEFAULT_WAIT_S, Job, JobState, OutputTarget, Phase
from app.core.policy import Budget, MemoryPolicy
from app.core.preset import PresetLimits
from app.core.request import GenerationRequest
from app.ui.models.job_control import JobControl
from app.ui.models.run_history import RunHistory
from app.ui.models.run_progress import RunProgress
from app.ui.models.running_job import RunningJob
from app.ui.models.throttle import Throttle

STEP_INTERVAL_MS = 100
"""Steps and their previews reach the widgets ten times a second at most."""
TICK_MS = 500
"""How often elapsed and remaining time are told between events."""


class EngineModel(QObject):
    """Turns the conductor's events into signals for the window, and the window's wishes into jobs.

    All signals are emitted in the GUI thread.

    Signals:
        step_done: StepDone, ten a second at most, the last one of a phase always.
        image_done: ImageDone.
        job_finished: JobFinished.
        job_failed: JobFailed.
        job_cancelled: JobCancelled.
        notice: Notice.
        engine_ready: EngineReady.
        engine_state_changed: EngineStateChanged.
        queue_changed: QueueChanged.
        progress_changed: RunProgress, or None when no job runs.
        job_submitted: Job, made by this window.
        calibrated: CalibrationDone.
    """

    step_done = Signal(object)
    image_done = Signal(object)
    job_finished = Signal(object)
    job_failed = Signal(object)
    job_cancelled = Signal(object)
    notice = Signal(object)
    engine_ready = Signal(object)
    engine_state_changed = Signal(object)
    queue_changed = Signal(object)
    progress_changed = Signal(object)
    job_submitted = Signal(object)
    calibrated = Signal(object)

    def __init__(
        self,
        control: JobControl,
        parent: QObject | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self._control = control
        self._clock = clock
        self._history = RunHistory()
        self._jobs: dict[str, Job] = {}
        self._unseen: dict[str, Job] = {}
        self._made_here: set[str] = set()
        self._run: RunningJob | None = None
        self._state = EngineState.STOPPED
        self._ready: EngineReady | None = None
        self._queue = QueueChanged(jobs=())
        self._touched_pause = False
        self._steps = Throttle(STEP_INTERVAL_MS, self)
        self._steps.passed.connect(self._on_step_passed)
        self._tick = QTimer(self)
        self._tick.setInterval(TICK_MS)
        self._tick.timeout.connect(self._tell_progress)

    # What is.

    @property
    def engine_state(self) -> EngineState:
        """Of the engine process."""
        return self._state

    @property
    def ready(self) -> EngineReady | None:
        """What the engine said about itself when it was last ready."""
        return self._ready

    @property
    def current_job(self) -> Job | None:
        """The running job."""
        return None if self._run is None else self._run.job

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Running first, then queued in order, then ended, newest first."""
        return self._queue.jobs

    @property
    def queued_jobs(self) -> tuple[Job, ...]:
        """Those that wait, in order."""
        return tuple(job for job in self._queue.jobs if job.state is JobState.QUEUED)

    @property
    def paused(self) -> bool:
        """Whether no further job is started."""
        return self._queue.paused

    @property
    def jobs_from_last_time(self) -> int:
        """How many jobs an earlier session left, until the user says what is to become of them."""
        if not self.paused or self._touched_pause:
            return 0
        return sum(job.id not in self._made_here for job in self.queued_jobs)

    def job(self, job_id: str) -> Job | None:
        """A job on the list, or just submitted."""
        return self._jobs.get(job_id) or self._unseen.get(job_id)

    def progress(self) -> RunProgress | None:
        """How far the running job is, now."""
        run = self._run
        if run is None:
            return None
        now_s = self._clock()
        steps = run.job.request.steps
        remaining_s = (
            None
            if run.phase is None
            else self._history.remaining_s(run.phase, step=run.step, steps=steps)
        )
        if remaining_s is not None:
            remaining_s = max(0.0, remaining_s - (now_s - run.told_s))
        return RunProgress(
            job=run.job,
            phase=run.phase,
            note=run.note,
            step=run.step,
            steps=steps,
            seconds_per_step=self._history.seconds_per_step(),
            remaining_s=remaining_s,
            elapsed_s=now_s - run.began_s,
            cancelling=run.cancelling,
            streaming=self._history.streaming() if run.phase is Phase.DENOISE else None,
            loading=run.loading,
            converting=run.converting,
            waiting=run.waiting,
            waiting_left_s=run.waiting_left_s(now_s),
            bytes_left_s=run.bytes_left_s(now_s),
        )

    # What the user wants.

    def generate(
        self,
        request: GenerationRequest,
        *,
        model_folder: str,
        output: OutputTarget,
        previews: bool,
        policy: MemoryPolicy | None = None,
        limits: PresetLimits | None = None,
        front: bool = False,
    ) -> str:
        """Queue a request, last or next; the new job's id."""
        job = Job(
            id=uuid.uuid4().hex,
            request=request,
            model_folder=model_folder,
            output=output,
            policy=policy or MemoryPolicy(),
            limits=limits or PresetLimits(),
            wait_s=DEFAULT_WAIT_S,
            previews=previews,
        )
        return self._submit(job, front=front)

    def _submit(self, job: Job, *, front: bool = False) -> str:
        self._unseen[job.id] = job
        self._made_here.add(job.id)
        self._control.submit(job, front=front)
        self.job_submitted.emit(job)
        return job.id

    def retry(self, job_id: str) -> str | None:
        """Queue a job's request once more; the new job's id, None when the job is unknown."""
        job = self.job(job_id)
        if job is None:
            return None
        taken = self._jobs.keys() | self._unseen.keys()
        return self._submit(once_more(job, taken, wait_s=DEFAULT_WAIT_S))

    @Slot()
    def cancel_current(self) -> None:
        """Stop the running job, if there is one."""
        if self._run is not None:
            self.cancel(self._run.job.id)

    def cancel(self, job_id: str) -> None:
        """Stop this job when it runs, take it back when it waits."""
        self._control.cancel(job_id)
        if self._run is not None and self._run.job.id == job_id:
            self._run.cancelling = True
            self._tell_progress()

    @Slot()
    def cancel_waiting(self) -> None:
        """Take all jobs back that wait; the last first, so that none of them begins meanwhile."""
        for job in reversed(self.queued_jobs):
            self._control.cancel(job.id)

    def change_budget(self, budget: Budget) -> None:
        """Let the running job, if there is one, use more or less of the GPU from now on."""
        if self._run is not None and Budget.of(self._run.job.policy) != budget:
            self._control.change_budget(self._run.job.id, budget)

    def remove(self, job_id: str) -> None:
        """Take a job off the list."""
        self._control.remove(job_id)

    def move(self, job_id: str, to_index: int) -> None:
        """Give a queued job this place among the queued ones, from 0."""
        self._control.move(job_id, to_index)

    @Slot()
    def pause(self) -> None:
        """Start no further job; the running one goes on."""
        self._touched_pause = True
        self._control.set_paused(True)

    @Slot()
    def resume(self) -> None:
        """Start the jobs that wait."""
        self._touched_pause = True
        self._control.set_paused(False)

    @Slot()
    def clear_ended(self) -> None:
        """Take ended jobs off the list."""
        self._control.clear_ended()

    # What happened.

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent; events of other kinds are not for the window."""
        match event:
            case StepDone():
                self._on_step_done(event)
            case PhaseStarted():
                self._on_phase_started(event)
            case PhaseFinished():
                self._on_phase_finished(event)
            case Loading() | Converting() | WaitingForMemory() | WaitedForMemory():
                self._on_way(event)
            case ImageDone():
                # A preview that came late must not cover the finished picture.
                self._steps.flush()
                self.image_done.emit(event)
            case Notice():
                self.notice.emit(event)
            case QueueChanged():
                self._on_queue_changed(event)
            case JobFinished() | JobFailed() | JobCancelled():
                self._on_job_ended(event)
            case CalibrationDone():
                self.calibrated.emit(event)
            case EngineReady():
                self._ready = event
                self.engine_ready.emit(event)
            case EngineStateChanged():
                self._on_engine_state_changed(event)
            case _:
                pass

    def _on_engine_state_changed(self, event: EngineStateChanged) -> None:
        self._state = event.state
        if event.state is EngineState.RESTARTING and self._run is not None:
            # The job runs again from its beginning.
            self._steps.drop()
            self._run.begin_phase(None)
            self._run.step = 0
        self.engine_state_changed.emit(event)
        self._tell_progress()

    def _on_phase_started(self, event: PhaseStarted) -> None:
        self._steps.flush()
        run = self._run_of(event.job_id)
        if run is not None:
            if event.phase in (Phase.LOAD, Phase.ENCODE):
                run.step = 0
            run.begin_phase(event.phase)
            run.note, run.told_s = event.note, self._clock()
        self._tell_progress()

    def _on_phase_finished(self, event: PhaseFinished) -> None:
        self._steps.flush()
        if self._run_of(event.job_id) is not None:
            self._history.add_phase(event.phase, event.seconds)

    def _on_way(self, event: Loading | Converting | WaitingForMemory | WaitedForMemory) -> None:
        run = self._run_of(event.job_id)
        if run is not None:
            run.take(event, self._clock())
            self._tell_progress()

    def _on_step_done(self, event: StepDone) -> None:
        run = self._run_of(event.job_id)
        if run is not None:
            run.step, run.told_s = event.step, self._clock()
            self._history.add_step(event.seconds, event.streaming)
        self._steps.put(event)

    @Slot(object)
    def _on_step_passed(self, event: StepDone) -> None:
        self.step_done.emit(event)
        self._tell_progress()

    def _on_job_ended(self, event: JobFinished | JobFailed | JobCancelled) -> None:
        if self._run is not None and self._run.job.id == event.job_id:
            self._end_run()
        match event:
            case JobFinished():
                self.job_finished.emit(event)
            case JobFailed():
                self.job_failed.emit(event)
            case JobCancelled():
                self.job_cancelled.emit(event)
        self._tell_progress()

    def _on_queue_changed(self, event: QueueChanged) -> None:
        self._queue = event
        self._jobs = {job.id: job for job in event.jobs}
        self._unseen = {key: job for key, job in self._unseen.items() if key not in self._jobs}
        running = next((job for job in event.jobs if job.state is JobState.RUNNING), None)
        if running is None:
            self._end_run()
        elif self._run is not None and self._run.job.id == running.id:
            self._run.job = running
        else:
            self._begin_run(running)
        self.queue_changed.emit(event)
        self._tell_progress()

    def _begin_run(self, job: Job) -> None:
        now_s = self._clock()
        self._run = RunningJob(job=job, began_s=now_s, told_s=now_s)
        self._history.start(job)
        self._steps.drop()
        self._tick.start()

    def _end_run(self) -> None:
        self._run = None
        self._steps.drop()
        self._tick.stop()

    def _run_of(self, job_id: str) -> RunningJob | None:
        """The running job's notes when it is this one; its first event may precede the list's."""
        if self._run is not None:
            return self._run if self._run.job.id == job_id else None
        job = self.job(job_id)
        if job is None or job.state not in (JobState.QUEUED, JobState.RUNNING):
            return None
        self._begin_run(replace(job, state=JobState.RUNNING))
        return self._run

    @Slot()
    def _tell_progress(self) -> None:
        self.progress_changed.emit(self.progress())
