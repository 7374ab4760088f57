"""An engine without a process: records what it is told, says what the test has it say."""

from collections.abc import Callable

from app.core.events import (
    EngineMemory,
    EngineReady,
    ImageDone,
    JobCancelled,
    JobFinished,
    PhaseFinished,
    PhaseStarted,
    Preview,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.engine.client import Deliver, EngineClient, EngineEnded, EngineMessage
from app.engine.protocol import PROTOCOL_VERSION, CancelJob, Command, Hello, RunJob, Shutdown
from tests.fakes.clock import FakeClock

__all__ = ["MEMORY", "FakeClock", "FakeEngineClient", "FakeEngines", "events_of_run"]

MEMORY = EngineMemory(
    device_allocated_bytes=None,
    device_reserved_bytes=None,
    device_peak_bytes=None,
    host_rss_bytes=300 * 1024**2,
    host_peak_rss_bytes=400 * 1024**2,
)
HELLO = Hello(protocol_version=PROTOCOL_VERSION, app_version="0.1.0")

OnRun = Callable[["FakeEngineClient", Job], None]
OnCancel = Callable[["FakeEngineClient", str], None]


class FakeEngineClient(EngineClient):
    """Scriptable client; delivers synchronously, in the thread of the test.

    Attributes:
        commands: Everything sent, in order.
        alive: Whether the process would be running.
        ended_by: "stop", "kill" or "" - who ended it.
        stop_grace_s: What `stop` was called with.
        last_words: Delivered by `stop` before the end, as a real engine's last events are.
    """

    def __init__(
        self,
        deliver: Deliver,
        *,
        pid: int,
        on_run: OnRun | None = None,
        on_cancel: OnCancel | None = None,
    ) -> None:
        self.commands: list[Command] = []
        self.alive = False
        self.ended_by = ""
        self.stop_grace_s: float | None = None
        self.last_words: tuple[EngineMessage, ...] = ()
        self._deliver = deliver
        self._pid = pid
        self._on_run = on_run
        self._on_cancel = on_cancel

    @property
    def pid(self) -> int | None:
        return self._pid

    def start(self) -> None:
        self.alive = True

    def send(self, command: Command) -> None:
        self.commands.append(command)
        if isinstance(command, RunJob) and self._on_run is not None:
            self._on_run(self, command.job)
        if isinstance(command, CancelJob) and self._on_cancel is not None:
            self._on_cancel(self, command.job_id)

    def stop(self, *, grace_s: float = 3.0) -> None:
        self.stop_grace_s = grace_s
        self.commands.append(Shutdown())
        self.say(*self.last_words)
        self._end("stop", 0)

    def kill(self) -> None:
        self._end("kill", -9)

    def wait(self, timeout_s: float | None = None) -> bool:
        return not self.alive

    def say(self, *messages: EngineMessage) -> None:
        """Deliver events as if the process had sent them."""
        for message in messages:
            self._deliver(message)

    def get_ready(self, *, device: str = "cpu") -> None:
        """Introduce itself and be ready for jobs."""
        self.say(
            HELLO,
            EngineReady(
                pid=self._pid,
                device=device,
                device_name="Fake CPU" if device == "cpu" else "Fake GPU",
                torch_version="0",
                diffusers_version="0",
            ),
        )

    def die(self, *, exit_code: int = -9, log_tail: str = "last words") -> None:
        """End by itself, as in a crash."""
        self.alive = False
        self._deliver(EngineEnded(exit_code=exit_code, log_tail=log_tail))

    @property
    def jobs(self) -> list[Job]:
        """The jobs it was given, in order."""
        return [command.job for command in self.commands if isinstance(command, RunJob)]

    @property
    def cancelled(self) -> list[str]:
        """The ids it was asked to cancel, in order."""
        return [command.job_id for command in self.commands if isinstance(command, CancelJob)]

    def _end(self, by: str, exit_code: int) -> None:
        if self.alive:
            self.alive = False
            self.ended_by = by
            self._deliver(EngineEnded(exit_code=exit_code))


class FakeEngines:
    """A `StartEngine` that makes fake clients and keeps them.

    Attributes:
        started: Every client, oldest first.
        failures: Raised instead of starting, one per call, as long as there are some.
    """

    def __init__(
        self,
        *,
        ready: bool = True,
        device: str = "cpu",
        on_run: OnRun | None = None,
        on_cancel: OnCancel | None = None,
    ) -> None:
        self.started: list[FakeEngineClient] = []
        self.failures: list[Exception] = []
        self._ready = ready
        self._device = device
        self._on_run = on_run
        self._on_cancel = on_cancel

    def __call__(self, deliver: Deliver) -> EngineClient:
        if self.failures:
            raise self.failures.pop(0)
        client = FakeEngineClient(
            deliver,
            pid=1000 + len(self.started),
            on_run=self._on_run,
            on_cancel=self._on_cancel,
        )
        self.started.append(client)
        client.start()
        if self._ready:
            client.get_ready(device=self._device)
        return client

    @property
    def last(self) -> FakeEngineClient:
        """The newest client."""
        return self.started[-1]


def events_of_run(job: Job, *, folder: str = "/pictures") -> list[EngineMessage]:
    """Everything a real engine says about a job that goes well, in order."""
    events: list[EngineMessage] = []
    for phase in Phase:
        events.append(PhaseStarted(job_id=job.id, phase=phase))
        if phase is Phase.DENOISE:
            events += [
                StepDone(
                    job_id=job.id,
                    step=step + 1,
                    steps=job.request.steps,
                    seconds=0.1,
                    memory=MEMORY,
                    preview=Preview(width_px=1, height_px=1, rgb=b"\x80\x80\x80"),
                )
                for step in range(job.request.steps)
            ]
        if phase is Phase.SAVE:
            events += [
                ImageDone(
                    job_id=job.id,
                    index=index,
                    seed=job.request.seed_of(index),
                    path=f"{folder}/{job.id}-{index}.png",
                )
                for index in range(job.request.images)
                if index not in job.saved
            ]
        events.append(PhaseFinished(job_id=job.id, phase=phase, seconds=0.1, memory=MEMORY))
    events.append(JobFinished(job_id=job.id, seconds=1.0, memory=MEMORY))
    return events


def finish_at_once(client: FakeEngineClient, job: Job) -> None:
    """An `OnRun` of an engine that does the whole job."""
    client.say(*events_of_run(job))


def cancel_at_once(client: FakeEngineClient, job_id: str) -> None:
    """An `OnCancel` of an engine that obeys."""
    client.say(JobCancelled(job_id=job_id))
