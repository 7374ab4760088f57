"""`generate`: one job through the same conductor and engine as the window's."""

import contextlib
import signal
import threading
import uuid
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

from app.cli.arguments import GenerateArguments
from app.cli.monitoring import Monitoring
from app.cli.progress import TextReport
from app.cli.report import JsonReport, Report, SavedImage
from app.cli.request import output_target, request_of
from app.cli.rescue import rescue
from app.cli.run_preset import run_choices
from app.conductor import Conductor, RunLearning
from app.core.calibration_store import CalibrationStore
from app.core.errors import EngineError, ErrorInfo
from app.core.events import (
    ConductorEvent,
    ImageDone,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    QueueChanged,
)
from app.core.jobs import Job, JobState
from app.core.paths import app_paths
from app.core.settings import SettingsStore
from app.engine.catalog import Catalog
from app.engine.client import StartEngine, engine_starter
from app.engine.kept_runs import forget_run

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130
POLL_S = 0.2
"""Windows tells of Ctrl+C only between two waits."""


def run_generate(
    arguments: GenerateArguments,
    *,
    start_engine: Callable[[str], StartEngine] = lambda device: engine_starter(device=device),
) -> int:
    """Make the images and return the exit code.

    Args:
        arguments: What was typed.
        start_engine: Gives what starts an engine on a device.

    Raises:
        RequestError: The arguments cannot be used.
        ModelError: There is no such model, or it cannot be used.
    """
    report: Report = JsonReport() if arguments.as_json else TextReport()
    store = SettingsStore(app_paths().settings_file)
    settings = store.load()
    for problem in store.problems:
        report.notice(Notice(job_id="", code="settings", message=problem))
    model = Catalog(settings.model_folders).resolve(arguments.model)
    device = arguments.device or settings.device
    choices = run_choices(arguments, model_folder=model.folder, device=device)
    for problem in choices.problems:
        report.notice(Notice(job_id="", code="preset", message=problem))
    request = request_of(choices.arguments, model, tell=report.notice)
    job = Job(
        id=uuid.uuid4().hex,
        request=request,
        model_folder=str(model.folder),
        output=output_target(arguments, settings),
        policy=choices.policy,
        limits=choices.limits,
        wait_s=choices.wait_s,
        previews=False,
    )
    run = _Run(job=job, report=report)
    learning = RunLearning(CalibrationStore(app_paths().calibration_file))
    conductor = Conductor(
        start_engine=start_engine(device),
        store=None,
        emit=run.events.put,
        on_report=learning.learn,
        on_job_over=partial(forget_run, app_paths().runs_folder),
    )
    thread = threading.Thread(target=conductor.run, name="conductor")
    monitoring = Monitoring(conductor, learning)
    run.listeners.append(monitoring.note)
    with _interrupts(lambda: run.interrupt(conductor)), monitoring:
        thread.start()
        try:
            conductor.submit(job)
            return run.follow(alive=thread.is_alive)
        finally:
            conductor.shutdown()
            thread.join()
            # It may have failed with something kept, and nobody tries it again.
            forget_run(app_paths().runs_folder, run.job_id)


class _Run:
    """One job as it goes by, and those that its images are put off to.

    Attributes:
        events: Put here in the conductor's thread, told in the main one.
        listeners: Told each event too.
    """

    def __init__(self, *, job: Job, report: Report) -> None:
        self.events: SimpleQueue[ConductorEvent] = SimpleQueue()
        self.listeners: list[Callable[[ConductorEvent], None]] = []
        self._job = job
        self._report = report
        self._interrupted = False
        self._images = 0
        self._first_index = 0
        self._seconds = 0.0
        self._finished: JobFinished | None = None
        self._problem: ErrorInfo | None = None

    @property
    def job_id(self) -> str:
        """Of the job that runs, or was the last."""
        return self._job.id

    def interrupt(self, conductor: Conductor) -> None:
        """Ctrl+C: cancel; once more ends the engine at once."""
        if not self._interrupted:
            self._interrupted = True
            self.events.put(
                Notice(
                    job_id=self._job.id,
                    code="cancelling",
                    message="Cancelling; press Ctrl+C again to end it at once.",
                )
            )
        conductor.cancel(self._job.id)

    def follow(self, *, alive: Callable[[], bool]) -> int:
        """Tell every event until the job has ended; returns the exit code."""
        while True:
            try:
                event = self.events.get(timeout=POLL_S)
            except Empty:
                if not alive():
                    raise EngineError(
                        "The job loop stopped unexpectedly; the log has the details.",
                        code="unexpected",
                    ) from None
                continue
            code = self._tell(event)
            if code is not None:
                return code

    def _tell(self, event: ConductorEvent) -> int | None:
        """The exit code when this was the last event."""
        for listener in self.listeners:
            listener(event)
        match event:
            case ImageDone():
                self._tell_image(event)
            case Notice():
                self._report.notice(event)
            case JobFinished():
                self._seconds += event.seconds
                self._finished = replace(event, seconds=self._seconds)
            case QueueChanged():
                return self._tell_queue(event)
            case JobFailed():
                self._report.error(event.error)
                return EXIT_FAILURE
            case JobCancelled():
                self._report.error(ErrorInfo(code="cancelled", message="Cancelled."))
                return EXIT_INTERRUPTED
            case _:
                self._report.event(event)
        return None

    def _tell_queue(self, event: QueueChanged) -> int | None:
        """Follow the job that runs now; the exit code when there is none left."""
        unfinished = [job for job in event.jobs if job.state in (JobState.QUEUED, JobState.RUNNING)]
        if unfinished:
            self._job = unfinished[0]
            self._first_index = self._job.output.first_index
            return None
        if self._finished is None:
            return None
        if self._problem is not None:
            self._report.error(self._problem)
            return EXIT_FAILURE
        self._report.done(self._finished, images=self._images)
        return EXIT_OK

    def _tell_image(self, event: ImageDone) -> None:
        path = event.path
        if path is None:
            self._problem = event.problem or ErrorInfo(
                code="output.failed", message="An image could not be saved."
            )
            path = rescue(event, self._problem, self._report.notice)
        if path is not None:
            self._images += 1
            index = self._first_index + event.index
            self._report.image(SavedImage(index=index, seed=event.seed, path=path))


@contextlib.contextmanager
def _interrupts(handler: Callable[[], None]) -> Generator[None]:
    """Have Ctrl+C call `handler` instead of raising in the middle of something."""
    former = signal.signal(signal.SIGINT, lambda _number, _frame: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
