"""The conductor's face: an inbox for any thread, and the loop that empties it in one.

Everything that happens, an intent of the user, a message of the engine or a sample of the monitor,
goes through one inbox and is handled in one thread, so there is nothing to lock and every order of
events is a test.
"""

import logging
import queue
import time
from collections.abc import Callable
from functools import partial

from app.conductor.engine_work import EngineWork
from app.conductor.kept_queue import KeptQueue
from app.conductor.messages import EngineMessages
from app.conductor.run_learning import OnReport
from app.conductor.wishes import Wishes
from app.core.device import Sample
from app.core.events import ConductorEvent, Notice
from app.core.jobs import Job
from app.core.policy import Budget
from app.core.queue_store import QueueStore
from app.engine.client import EngineMessage, StartEngine
from app.engine.protocol import Calibrate
from app.engine.slot import EngineSlot

log = logging.getLogger(__name__)

LOOP_ERROR_CODE = "conductor.error"


def ignore(_value: object) -> None:
    """For hooks that nobody uses."""


class Conductor:
    """The queue and the one engine process that works on it.

    The intents (`submit`, `cancel`, ...) may be called in any thread and return at once; what came
    of them is told by events, which are emitted in the thread of `run`.
    """

    def __init__(
        self,
        *,
        start_engine: StartEngine,
        store: QueueStore | None,
        emit: Callable[[ConductorEvent], None],
        on_report: OnReport = ignore,
        on_job_over: Callable[[str], None] = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the stored queue; jobs found there wait, paused, so that nothing runs by surprise.

        Args:
            start_engine: Makes a running engine process; called when one is needed.
            store: Keeps waiting jobs over restarts; None where nothing is to be kept.
            emit: Told every event, in order; must return at once.
            on_report: Given the report of each run that finished, in the thread of `run`.
            on_job_over: Given the id of each job that will not run again, in the thread of `run`:
                what was kept for it can go.
            clock: Monotonic, in seconds.
        """
        self._emit = emit
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._work = EngineWork(
            queue=KeptQueue(store=store, emit=emit),
            slot=EngineSlot(start_engine=start_engine, deliver=self._deliver, clock=clock),
            emit=emit,
            on_job_over=on_job_over,
        )
        self._wishes = Wishes(self._work, drain=self._drain)
        self._messages = EngineMessages(self._work, clock=clock, on_report=on_report)
        self._opened = False

    # Intents, from any thread.

    def submit(self, job: Job, *, front: bool = False) -> None:
        """Queue a job, as the next one when `front`."""
        self._inbox.put(partial(self._wishes.submit, job, front=front))

    def cancel(self, job_id: str) -> None:
        """Take a job back; asked twice, a running one is ended with its process.

        So is one whose engine does not answer in time while it loads the model.
        """
        self._inbox.put(partial(self._wishes.cancel, job_id))

    def remove(self, job_id: str) -> None:
        """Forget a job; a running one is cancelled first."""
        self._inbox.put(partial(self._wishes.remove, job_id))

    def move(self, job_id: str, to_index: int) -> None:
        """Give a waiting job another place among the waiting ones; 0 is next."""
        self._inbox.put(partial(self._wishes.move, job_id, to_index))

    def change_budget(self, job_id: str, budget: Budget) -> None:
        """Let a running job use more or less of the device from its next block on."""
        self._inbox.put(partial(self._wishes.change_budget, job_id, budget))

    def set_paused(self, paused: bool, /) -> None:  # noqa: FBT001 - a setter
        """Begin no further job, or go on; the running one is not touched."""
        self._inbox.put(partial(self._wishes.set_paused, paused=paused))

    def clear_ended(self) -> None:
        """Forget all jobs that have ended."""
        self._inbox.put(self._wishes.clear_ended)

    def warm_up(self) -> None:
        """Start the engine process before there is a job for it."""
        self._inbox.put(self._wishes.warm_up)

    def renew_engine(self) -> None:
        """Replace the engine process, after the running job: it is started with other settings."""
        self._inbox.put(self._work.renew_engine)

    def calibrate(self, command: Calibrate) -> None:
        """Measure the machine, when no run is going on; `CalibrationDone` tells how that went."""
        self._inbox.put(partial(self._wishes.calibrate, command))

    def note_sample(self, sample: Sample) -> None:
        """Look at the running job's memory; called ten times a second by the monitor."""
        # Nobody empties the inbox any more once it is closing.
        if not self._work.closing:
            self._inbox.put(partial(self._on_sample, sample))

    def shutdown(self) -> None:
        """End the engine and `run`; the running job is kept for the next start. Idempotent."""
        self._inbox.put(self._wishes.shut_down)

    # The loop, in one thread.

    def run(self) -> None:
        """Handle intents and messages until `shutdown`; the engine does not outlive this call."""
        try:
            self._open()
            while not self._work.closing:
                try:
                    action = self._inbox.get(timeout=self._work.slot.patience_s())
                except queue.Empty:
                    action = None
                if action is not None:
                    self._do(action)
                self._do(self._check_deadline)
        finally:
            self._work.kill_engine()

    def process_pending(self) -> None:
        """Handle what is in the inbox and return; an alternative to `run` for tests."""
        self._open()
        self._drain()
        self._check_deadline()

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self._work.queue.tell_first()

    def _drain(self) -> None:
        while True:
            try:
                action = self._inbox.get_nowait()
            except queue.Empty:
                return
            self._do(action)

    def _do(self, action: Callable[[], None]) -> None:
        """Handle one thing; an error in it is told, and the loop goes on with the next."""
        try:
            action()
        except Exception as error:
            log.exception("the job loop met an error and goes on")
            self._recover(error)

    def _recover(self, error: Exception) -> None:
        try:
            self._emit(
                Notice(
                    job_id="",
                    code=LOOP_ERROR_CODE,
                    message=(
                        f"Something unexpected went wrong with the queue ({type(error).__name__}); "
                        "it goes on, and the log has the details."
                    ),
                )
            )
            self._work.go_on()
        except Exception:
            log.exception("the job loop cannot tell of its error")

    def _check_deadline(self) -> None:
        if self._work.slot.cancel_overdue():
            self._work.end_cancelled()
            return
        overdue = self._work.slot.overdue()
        if overdue is not None:
            self._messages.on_engine_ended(None, overdue)

    def _deliver(self, number: int, message: EngineMessage) -> None:
        self._inbox.put(partial(self._messages.handle, number, message))

    def _on_sample(self, sample: Sample) -> None:
        notice = self._work.guard.look(sample, self._work.slot.session)
        if notice is not None:
            self._work.tell(notice)
