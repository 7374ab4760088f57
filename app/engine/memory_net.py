"""The net under whole runs: what no part of a run recovers from costs no picture.

What computes is repeated where it fails, with less (`app.engine.run.attempts`). Memory may also run
out in what recovers, between two phases, or once the last image is saved: then the run is left, and
another goes on from the latents that are kept and the images that are saved. So it is where weights
that were converted here turn out to be damaged: the next run makes them again.
"""

import contextlib
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from app.core.errors import AppError, ErrorInfo, OutOfVramError, describe
from app.core.events import (
    REPEATED_CODE,
    ImageDone,
    ImagesDeferred,
    JobCancelled,
    JobFailed,
    Notice,
)
from app.core.jobs import Job, Phase
from app.core.run_report import RunReport
from app.engine.cancel import CancelRequestedError
from app.engine.out_of_memory import (
    is_of_host,
    is_out_of_memory,
    memory_name,
    out_of_memory_error,
    ran_out_sentence,
)
from app.engine.run.phases import PhaseLog
from app.engine.stored_weights import DamagedFileError

log = logging.getLogger(__name__)

MAX_BEGUN_AGAIN = 3
"""How often a run goes on after the net caught it, until it has saved another image."""
Send = Callable[[Any], None]
Result = TypeVar("Result")


class NettedRun(Protocol):
    """What the net needs of a run: see `app.engine.run.run.Run`."""

    phases: PhaseLog

    def execute(self) -> RunReport:
        """Work until the last image is saved."""
        ...

    def stop(self, *, goes_on: bool) -> None:
        """It was left; when the job goes on, what is done of it is kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All images are saved; without a report where memory ran out on the way to it."""

    report: RunReport | None


Outcome = Finished | JobCancelled | JobFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class _RanOut:
    """What is left of an out-of-memory error: text, which holds no tensors."""

    name: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Damaged:
    """What is left of a `DamagedFileError`."""

    path: Path
    error: ErrorInfo


class MemoryNet:
    """Carries out one job, in as many runs as memory makes of it.

    Attributes:
        run: The present one, or the last; None before the first could begin.
    """

    def __init__(
        self,
        job: Job,
        *,
        send: Send,
        begin: Callable[[Job, Send], NettedRun],
        evict: Callable[[], None],
        drop: Callable[[], None],
        on_cpu: bool,
    ) -> None:
        """Begin nothing yet.

        Args:
            job: To carry out.
            send: Takes events.
            begin: Makes a run of what is left of the job, which sends its events where it is told.
            evict: Takes all weights from the device.
            drop: Lets the model go, so that nothing of its files is in use.
            on_cpu: Whether RAM is the device's memory.
        """
        self.run: NettedRun | None = None
        self._job = job
        self._send = send
        self._begin = begin
        self._evict = evict
        self._drop = drop
        self._on_cpu = on_cpu
        self._saved = set(job.saved)
        self._images = job.request.images
        self._begun_again = 0

    def carry_out(self) -> Outcome:
        """Work on the job until it is finished, or cannot be."""
        while True:
            outcome = self._attempt()
            # Here, not in a handler: a live exception keeps its frames, and they hold tensors.
            if isinstance(outcome, _Damaged):
                if self._begun_again == MAX_BEGUN_AGAIN:
                    return JobFailed(job_id=self._job.id, error=outcome.error)
                self._remove(outcome.path)
                continue
            if not isinstance(outcome, _RanOut):
                return outcome
            reason = ran_out_sentence(outcome.name, self._phase())
            log.info("%s (%s)", reason, outcome.details)
            if self._all_saved():
                return Finished(report=None)
            if self._begun_again == MAX_BEGUN_AGAIN:
                return self._given_up(outcome)
            self._begun_again += 1
            self.stop(goes_on=True)
            sure(self._evict)
            message = f"{reason} The run goes on from its last step with what is free now."
            notice = Notice(job_id=self._job.id, code=REPEATED_CODE, message=message)
            sure(lambda notice=notice: self._send(notice))

    def stop(self, *, goes_on: bool) -> None:
        """Leave the run; see `NettedRun.stop`."""
        run = self.run
        if run is not None:
            sure(lambda: run.stop(goes_on=goes_on))

    def _remove(self, path: Path) -> None:
        self._begun_again += 1
        self.stop(goes_on=True)
        # Windows removes nothing that is mapped.
        sure(self._drop)
        message = (
            f"The converted weights in {path.name} were damaged on the disk, or are gone: they are "
            "made again."
        )
        log.warning("%s (%s)", message, path)
        with contextlib.suppress(OSError):
            path.unlink()
        notice = Notice(job_id=self._job.id, code="weights.damaged", message=message)
        sure(lambda: self._send(notice))

    def _attempt(self) -> Outcome | _RanOut | _Damaged:
        """One run; what to send when it did not come to its end."""
        failure: ErrorInfo
        try:
            run = self.run = self._begin(self._left(), self._tell)
            return Finished(report=None if self._all_saved() else run.execute())
        except CancelRequestedError:
            return JobCancelled(job_id=self._job.id)
        except DamagedFileError as error:
            return _Damaged(path=error.path, error=error.info())
        except OutOfVramError as error:
            log.info("job %s failed: %s", self._job.id, error)
            failure = error.info()
        except Exception as error:
            if is_out_of_memory(error):
                name = memory_name(of_host=self._on_cpu or is_of_host(error))
                return _RanOut(name=name, details=str(error))
            if isinstance(error, AppError):
                log.info("job %s failed: %s", self._job.id, error)
            else:
                log.exception("job %s failed in phase %s", self._job.id, self._phase().value)
            failure = describe(error)
        return JobFailed(job_id=self._job.id, error=failure)

    def _left(self) -> Job:
        """The job as the next run is to take it: images that were put off are others' now."""
        job = self._job
        saved = tuple(sorted(index for index in self._saved if index < self._images))
        return replace(job, saved=saved, request=replace(job.request, images=self._images))

    def _tell(self, event: object) -> None:
        self._send(event)
        if isinstance(event, ImageDone):
            self._saved.add(event.index)
            self._begun_again = 0
        elif isinstance(event, ImagesDeferred):
            self._images = event.first_index

    def _all_saved(self) -> bool:
        return self._saved.issuperset(range(self._images))

    def _phase(self) -> Phase:
        return Phase.LOAD if self.run is None else self.run.phases.phase

    def _given_up(self, ran_out: _RanOut) -> JobFailed:
        error = out_of_memory_error(
            ran_out.name,
            self._phase(),
            details=ran_out.details,
            strict=self._job.policy.strict,
        )
        return JobFailed(job_id=self._job.id, error=error.info())


def sure(action: Callable[[], Result]) -> Result:
    """Do what has to be done, and once more where memory ran out at it.

    Raises:
        Exception: It ran out again: this process has to end. The app runs the job anew in another,
            which begins with all its memory free and goes on from what is kept.
    """
    try:
        return action()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Here, where the frames of what failed are gone.
    gc.collect()
    return action()


def spare(action: Callable[[], object]) -> None:
    """Do what may be left out where memory runs out."""
    try:
        action()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
