"""A real engine process to talk to, and the jobs to give it."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from app.core.events import EngineReady
from app.core.jobs import Job, OutputTarget
from app.core.request import GenerationRequest
from app.engine.protocol import Command, Hello, RunJob, encode, read_message
from tests.forked_engine import ForkedEngine

DEADLINE_S = 120.0
"""For anything to be heard from the process; only reached when a test fails."""
_ROOT = Path(__file__).resolve().parents[1]
_ENGINE = """
import sys
import app.engine.worker as worker
work = worker.Worker.work
def work_without_measuring(self, device):
    # Not above: the first word is said before torch is imported.
    from tests.quick_forecasts import use_quick_forecasts
    use_quick_forecasts()
    work(self, device)
worker.Worker.work = work_without_measuring
sys.exit(worker.main(sys.argv[1:]))
"""
"""The engine's process, but that it measures no unknown model: that takes too long for tests."""
_Message = TypeVar("_Message")


def make_job(model: Path, out: Path, *, job_id: str = "job", **request: Any) -> Job:
    """A job for a tiny model; options of the request override small defaults."""
    values = {"prompt": "a red circle", "width_px": 64, "height_px": 64, "steps": 2, **request}
    return Job(
        id=job_id,
        request=GenerationRequest(model=str(model), **values),
        model_folder=str(model),
        output=OutputTarget(folder=str(out), name_template="{seed}"),
    )


class EngineProcess:
    """What `python -m app.engine.worker` runs; a context manager that leaves nothing running.

    Attributes:
        process: The engine's.
        seen: All messages so far, in order.
    """

    def __init__(
        self, *, device: str = "cpu", fresh: bool = False, command: Sequence[str] = ()
    ) -> None:
        """Start it.

        Args:
            device: As the engine is told it.
            fresh: Whether it imports torch itself, which takes seconds.
            command: To run instead.
        """
        arguments = ("--device", device)
        if hasattr(os, "fork") and not fresh and not command:
            self.process = ForkedEngine(arguments)
        else:
            self.process = subprocess.Popen(
                command or (sys.executable, "-P", "-c", _ENGINE, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
            )
        self.seen: list[Any] = []
        self.errors = ""
        self._messages: queue.Queue[Any] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read_messages),
            threading.Thread(target=self._read_errors),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()

    def send(self, command: Command) -> None:
        self.send_bytes(encode(command))

    def send_bytes(self, data: bytes) -> None:
        stdin = cast("Any", self.process.stdin)
        stdin.write(data)
        stdin.flush()

    def close_stdin(self) -> None:
        cast("Any", self.process.stdin).close()

    def next_message(self) -> Any:
        """The next message, or None at the end of the stream."""
        message = self._messages.get(timeout=DEADLINE_S)
        if message is not None:
            self.seen.append(message)
        return message

    def wait_for(self, *kinds: type[_Message]) -> _Message:
        """The next message of one of these types; others are kept in `seen`."""
        while (message := self.next_message()) is not None:
            if isinstance(message, kinds):
                return message
        raise AssertionError(f"the engine ended before {kinds}; it said:\n{self.errors}")

    def wait_until_ready(self) -> EngineReady:
        self.wait_for(Hello)
        return self.wait_for(EngineReady)

    def run(self, job: Job, *ends: type[_Message]) -> list[Any]:
        """All messages of a job, up to the first of the given types."""
        before = len(self.seen)
        self.send(RunJob(job=job))
        self.wait_for(*ends)
        return self.seen[before:]

    def _read_messages(self) -> None:
        stdout = cast("Any", self.process.stdout)
        while (message := read_message(stdout)) is not None:
            self._messages.put(message)
        self._messages.put(None)

    def _read_errors(self) -> None:
        for line in cast("Any", self.process.stderr):
            self.errors += line.decode("utf-8", "replace")
