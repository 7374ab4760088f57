"""Running one job after the other, and telling how each goes."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.atomic import sweep_partials
from app.core.calibration_store import CalibrationStore
from app.core.errors import AppError, ErrorInfo, describe
from app.core.events import ImageDone, JobCancelled, JobFailed, JobFinished
from app.core.jobs import Job
from app.core.paths import AppPaths
from app.core.run_report import RunReport
from app.engine.cancel import CancelFlag, CancelPoints, CancelRequestedError
from app.engine.compute_device import ComputeDevice
from app.engine.engine_memory import MemoryMeter
from app.engine.host_memory import give_back_host_memory, should_release
from app.engine.kept_runs import sweep_kept_runs
from app.engine.receipts import Receipts
from app.engine.relief import ReliefRequests
from app.engine.run.context import RunContext
from app.engine.run.model_shelf import ModelShelf
from app.engine.run.run import Run
from app.engine.run.tools import run_tools
from app.engine.save_guard import SaveGuard

log = logging.getLogger(__name__)


class JobRunner:
    """Keeps the loaded model from job to job; works in the thread that calls it."""

    def __init__(
        self,
        *,
        device: ComputeDevice,
        send: Callable[[Any], None],
        guard: SaveGuard,
        paths: AppPaths,
    ) -> None:
        """Load nothing yet.

        Args:
            device: To run on.
            send: Takes events.
            guard: Around files that are written.
            paths: Where forecasts and measurements of this machine are.
        """
        self._device = device
        self._send = send
        self._guard = guard
        self._forecast_cache = paths.forecast_cache
        self._converted_folder = paths.converted_folder
        # Half of a large model, which nobody would see, may be left of a killed engine.
        sweep_partials(self._converted_folder)
        self._store = CalibrationStore(paths.calibration_file)
        self._cancel = CancelPoints()
        self._shelf = ModelShelf(device, self._cancel)
        self._meter = MemoryMeter(device, placed_bytes=self._shelf.placed_bytes)
        self._tools = run_tools(device, paths)

    def run(
        self,
        job: Job,
        flag: CancelFlag,
        relief: ReliefRequests,
        *,
        keep_folder: Path | None = None,
    ) -> None:
        """Work on a job and send its events; the last is that it finished or how it ended.

        Args:
            job: To run.
            flag: Whether it is to stop.
            relief: What is asked of it meanwhile.
            keep_folder: Where its latents are kept; None keeps them in memory only.
        """
        began_s = self._device.clock_s()
        self._cancel.flag = flag
        self._guard.receipts = None
        if keep_folder is not None:
            sweep_kept_runs(keep_folder)
            receipts = self._guard.receipts = Receipts(keep_folder, job.id)
            job = self._with_saved(job, receipts.saved())
        run = Run(
            RunContext(
                job=job,
                shelf=self._shelf,
                meter=self._meter,
                send=self._send,
                guard=self._guard,
                cancel=flag,
                relief=relief,
                keep_folder=keep_folder,
                forecast_cache=self._forecast_cache,
                converted_folder=self._converted_folder,
                store=self._store,
                tools=self._tools,
            )
        )
        ended = self._attempt(job, run)
        if not (isinstance(ended, JobCancelled) and flag.goes_on):
            self._guard.forget_receipts()
        if isinstance(ended, RunReport):
            self._tidy()
            seconds = self._device.clock_s() - began_s
            _log_run(job, seconds, run.phases.seconds)
            self._send(
                JobFinished(
                    job_id=job.id, seconds=seconds, memory=run.phases.memory(), report=ended
                )
            )
            return
        # Here, not in a handler: a live exception keeps its frames, and they hold our tensors.
        if isinstance(ended, JobFailed):
            self._shelf.evict()
        else:
            self._shelf.release()
        run.stop(goes_on=isinstance(ended, JobCancelled) and flag.goes_on)
        self._send(ended)

    def _with_saved(self, job: Job, saved: dict[int, str]) -> Job:
        """The job, with what an engine before this one had saved and could not tell."""
        new = [index for index in saved if index not in job.saved and index < job.request.images]
        for index in new:
            log.info("job %s: image %d was saved before", job.id, index)
            seed = job.request.seed_of(index)
            self._send(ImageDone(job_id=job.id, index=index, seed=seed, path=saved[index]))
        return replace(job, saved=(*job.saved, *new)) if new else job

    def _attempt(self, job: Job, run: Run) -> RunReport | JobCancelled | JobFailed:
        """Run a job; its report, or what to send when it did not come to its end."""
        failure: ErrorInfo
        try:
            return run.execute()
        except CancelRequestedError:
            return JobCancelled(job_id=job.id)
        except AppError as error:
            log.info("job %s failed: %s", job.id, error)
            failure = error.info()
        except Exception as error:
            log.exception("job %s failed in phase %s", job.id, run.phases.phase.value)
            failure = describe(error)
        return JobFailed(job_id=job.id, error=failure)

    def _tidy(self) -> None:
        """Give back what the next job would not take again anyway."""
        # Little work, and without it the pieces that are freed between others stay for ever.
        give_back_host_memory()
        device = self._device
        if device.kind != "cpu" and should_release(
            reserved_bytes=device.reserved_bytes(),
            allocated_bytes=device.allocated_bytes(),
            total_bytes=device.total_bytes,
        ):
            device.release_cached()


def _log_run(job: Job, seconds: float, phases: dict[str, float]) -> None:
    request = job.request
    log.info(
        "job %s: %d image(s), seed %d, %dx%d, %d steps, %.2f s (%s)",
        job.id,
        request.images,
        request.seed,
        request.width_px,
        request.height_px,
        request.steps,
        seconds,
        ", ".join(f"{phase} {value:.2f} s" for phase, value in phases.items()),
    )
