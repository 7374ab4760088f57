"""A conductor on fakes, in the thread of the test."""

from collections.abc import Callable
from typing import TypeVar

from app.conductor import Conductor, FinishedRun, OnReport
from app.core.events import (
    ConductorEvent,
    EngineState,
    EngineStateChanged,
    PhaseStarted,
    QueueChanged,
)
from app.core.jobs import Job, OutputTarget, Phase
from app.core.queue_store import QueueStore
from app.core.request import GenerationRequest
from app.engine.client import EngineMessage
from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeEngines, events_of_run

Event = TypeVar("Event")


class Stage:
    """A conductor on fakes.

    Attributes:
        events: Everything emitted, in order.
        reports: Of runs that finished, in order.
        over: Ids of jobs that will not run again, in order.
    """

    def __init__(
        self,
        engines: FakeEngines,
        *,
        store: QueueStore | None = None,
        clock: FakeClock | None = None,
        on_report: OnReport | None = None,
    ) -> None:
        self.engines = engines
        self.clock = clock or FakeClock()
        self.events: list[ConductorEvent] = []
        self.reports: list[FinishedRun] = []
        self.over: list[str] = []
        self._fails: Callable[[ConductorEvent], bool] = lambda _: False
        self.conductor = Conductor(
            start_engine=engines,
            store=store,
            emit=self._emit,
            on_report=on_report or self.reports.append,
            on_job_over=self.over.append,
            clock=self.clock,
        )
        self.conductor.process_pending()

    def _emit(self, event: ConductorEvent) -> None:
        self.events.append(event)
        if self._fails(event):
            raise RuntimeError("a listener failed")

    def fail_on(self, fails: Callable[[ConductorEvent], bool]) -> None:
        """Have the listener fail from now on, for such events."""
        self._fails = fails

    @property
    def jobs(self) -> tuple[Job, ...]:
        return self.queue.jobs

    @property
    def queue(self) -> QueueChanged:
        return next(one for one in reversed(self.events) if isinstance(one, QueueChanged))

    @property
    def states(self) -> list[EngineState]:
        return [one.state for one in self.events if isinstance(one, EngineStateChanged)]

    @property
    def reasons(self) -> list[str]:
        return [
            one.reason for one in self.events if isinstance(one, EngineStateChanged) and one.reason
        ]

    def of(self, kind: type[Event]) -> list[Event]:
        return [one for one in self.events if isinstance(one, kind)]

    def do(self, *intents: Callable[[], None]) -> None:
        for intent in intents:
            intent()
        self.conductor.process_pending()

    def submit(self, *jobs: Job) -> None:
        for job in jobs:
            self.conductor.submit(job)
        self.conductor.process_pending()

    def say(self, *messages: EngineMessage) -> None:
        self.engines.last.say(*messages)
        self.conductor.process_pending()

    def die(self, *, exit_code: int = -9) -> None:
        self.engines.last.die(exit_code=exit_code)
        self.conductor.process_pending()

    def run_until(self, phase: Phase) -> None:
        """Submit a job "a", and let the engine work on it up to the start of this phase."""
        job = make_job("a")
        self.submit(job)
        self.say_until(job, phase)

    def say_until(self, job: Job, phase: Phase) -> None:
        """Let the engine work on the job up to the start of this phase."""
        for event in events_of_run(job):
            self.say(event)
            if isinstance(event, PhaseStarted) and event.phase is phase:
                return


def make_job(name: str, *, images: int = 1) -> Job:
    return Job(
        id=name,
        request=GenerationRequest(prompt=f"prompt of {name}", steps=2, images=images),
        model_folder="/models/demo",
        output=OutputTarget(folder="/nowhere/pictures"),
    )


def ids(jobs: tuple[Job, ...]) -> list[str]:
    return [job.id for job in jobs]
