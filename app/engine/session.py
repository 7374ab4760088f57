"""What the app knows about one engine process while it lives, and the sentence when it dies."""

import logging
import signal
import sys
from dataclasses import replace

from app.core.errors import EngineCrashedError, ErrorInfo
from app.core.events import EngineEvent, EngineLog, PhaseFinished, PhaseStarted
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.policy import Budget
from app.engine.client import EngineClient, EngineEnded
from app.engine.protocol import (
    BROKEN_DEVICE_EXIT,
    Calibrate,
    CancelJob,
    ChangeBudget,
    OfferMemory,
    RelieveJob,
    RunJob,
)

HELLO_DEADLINE_S = 120.0
"""From the start of the process to its first message: Python alone, from a slow disk."""
READY_DEADLINE_S = 300.0
"""From then on until it is ready: importing torch and waking the driver."""

MEASURING_DEADLINE_S = 120.0
"""From the wish to measure the machine to the answer: it takes seconds, longer if it swaps."""

CANCEL_DEADLINE_S = 2.0
"""From the wish to cancel a job that loads its model to the answer: the job looks between any two
blocks, which takes much less, unless a disk or a driver hangs."""

SETUP_CODE = "engine.setup"
"""Something on this machine keeps the engine from starting, such as a library that is broken:
trying again does not help."""

STOPPED_CODE = "engine.stopped"
"""It was at work and ended itself, because its device broke: in another process it may go on."""

_WHERE = {
    None: "before it began the job",
    Phase.LOAD: "while loading the model",
    Phase.ENCODE: "while reading the prompt",
    Phase.DENOISE: "while denoising",
    Phase.DECODE: "while decoding the images",
    Phase.SAVE: "while saving",
}


class EngineSession:
    """One engine process and how far it is.

    Attributes:
        client: The process.
        ready: Whether it takes jobs.
        job_id: Of the job it was given, or None.
        phase: The last one begun in this job, or None.
        cancel_sent: Whether it was asked to cancel that job.
        calibrating: Whether it was asked to measure the machine, and has not answered yet.
        deadline_s: On the conductor's clock, when its start or the measuring has taken too long;
            None while neither goes on.
        cancel_deadline_s: On the same clock, when it should have answered a cancel while loading;
            None while no such answer is awaited.
    """

    def __init__(self, client: EngineClient, *, now_s: float) -> None:
        self.client = client
        self.ready = False
        self.job_id: str | None = None
        self.phase: Phase | None = None
        self.cancel_sent = False
        self.calibrating = False
        self.deadline_s: float | None = now_s + HELLO_DEADLINE_S
        self.cancel_deadline_s: float | None = None
        self._loading = False
        self._answered = False
        self._last_words = ""

    def note_hello(self, *, now_s: float) -> None:
        """It lives; what remains is importing torch."""
        self.deadline_s = now_s + READY_DEADLINE_S

    def note_ready(self) -> None:
        """It takes jobs from now on."""
        self.ready = True
        self.deadline_s = None

    def note_log(self, event: EngineLog) -> None:
        """Remember what it says when it cannot go on."""
        if event.level >= logging.CRITICAL:
            self._last_words = event.message

    def explain(self, ended: EngineEnded) -> EngineEnded:
        """Its end, with its own reason when it said why it cannot start, or go on."""
        if ended.error is not None or not self._last_words:
            return ended
        sentence, _, details = self._last_words.partition("\n")
        code = STOPPED_CODE if ended.exit_code == BROKEN_DEVICE_EXIT else SETUP_CODE
        return replace(ended, error=ErrorInfo(code=code, message=sentence, details=details))

    def give(self, job: Job) -> None:
        """Send the job."""
        self.job_id = job.id
        self.phase = None
        self.cancel_sent = False
        self.cancel_deadline_s = None
        self._loading = True
        self.client.send(RunJob(job=job, keep_folder=str(app_paths().runs_folder)))

    def calibrate(self, command: Calibrate, *, now_s: float) -> None:
        """Ask it to measure the machine; a job that it is given meanwhile comes after that."""
        self.calibrating = True
        self.deadline_s = now_s + MEASURING_DEADLINE_S
        self.client.send(command)

    def note_calibrated(self) -> None:
        """It has answered, or nothing is measured any more."""
        if self.calibrating:
            self.calibrating = False
            self.deadline_s = None

    def note(self, event: EngineEvent) -> None:
        """Keep track of the phase."""
        self._answered = True
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
            self._loading = event.phase is Phase.LOAD
        elif isinstance(event, PhaseFinished):
            self._loading = False
        if not self._loading:
            # It goes on, and a block may take longer than reading one: it answers in its time.
            self.cancel_deadline_s = None

    def note_job_ended(self) -> None:
        """It is idle again."""
        self.job_id = None
        self.phase = None
        self.cancel_sent = False
        self.cancel_deadline_s = None

    def cancel(self, *, now_s: float) -> bool:
        """Ask it to cancel its job; while it loads, the answer has to come in time.

        Returns:
            False when that cannot be awaited (it was asked before, or never said a word of any job:
            then it still imports libraries, in one long call), and the process has to be ended
            instead.
        """
        if self.job_id is None or self.cancel_sent or not self._answered:
            return False
        self.client.send(CancelJob(job_id=self.job_id))
        self.cancel_sent = True
        if self._loading:
            self.cancel_deadline_s = now_s + CANCEL_DEADLINE_S
        return True

    def relieve(self, *, device_bytes: int, host_bytes: int, reason: str) -> None:
        """Ask it to take less memory from its next block, step or phase on."""
        if self.job_id is not None:
            self.client.send(
                RelieveJob(
                    job_id=self.job_id,
                    device_bytes=device_bytes,
                    host_bytes=host_bytes,
                    reason=reason,
                )
            )

    def change_budget(self, budget: Budget) -> None:
        """Have its job use more or less of the device from its next block on."""
        if self.job_id is not None:
            self.client.send(ChangeBudget(job_id=self.job_id, budget=budget))

    def offer_memory(self, reason: str) -> None:
        """Tell it that its job may have memory that others used."""
        if self.job_id is not None:
            self.client.send(OfferMemory(job_id=self.job_id, reason=reason))


def death_sentence(ended: EngineEnded, phase: Phase | None) -> str:
    """How the engine came to its end, as the first half of a sentence."""
    if ended.error is not None:
        return ended.error.message.rstrip(".")
    return f"The engine ended unexpectedly {_WHERE[phase]} ({_exit_text(ended.exit_code)})"


def death_error(ended: EngineEnded, phase: Phase | None, *, attempts: int) -> ErrorInfo:
    """Why a job is given up after the engine died on it for the last time."""
    if ended.error is not None:
        details = "\n".join(filter(None, (ended.error.details, ended.log_tail)))
        message = ended.error.message
        if ended.error.code == STOPPED_CODE:
            message = (
                f"{death_sentence(ended, phase)}, {attempts} times on this job: restart the "
                "computer, and install the GPU's newest driver if it happens again."
            )
        return replace(ended.error, message=message, details=details)
    return EngineCrashedError(
        f"{death_sentence(ended, phase)}, {attempts} times on this job: "
        "try a smaller size or fewer images, and see the log for its last words.",
        details=ended.log_tail,
    ).info()


def _exit_text(exit_code: int | None) -> str:
    if exit_code is None:
        return "exit code unknown"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        if name == "SIGKILL" and sys.platform == "linux":
            return "SIGKILL: the system may have run out of memory"
        return name
    # Windows reports crashes as NTSTATUS numbers, which are known by their hexadecimal form.
    return f"exit code {exit_code}" if exit_code < 256 else f"exit code 0x{exit_code:08X}"
