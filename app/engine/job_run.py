"""Running one job after the other, and telling how each goes."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.atomic import sweep_partials
from app.core.calibration_store import CalibrationStore
from app.core.errors import LACK_OF_MEMORY_CODES
from app.core.events import ImageDone, JobCancelled, JobFailed, JobFinished
from app.core.jobs import Job
from app.core.paths import AppPaths
from app.engine.broken_device import DeviceBrokenError, still_computes
from app.engine.cancel import CancelFlag, CancelPoints
from app.engine.compute_device import ComputeDevice
from app.engine.engine_memory import MemoryMeter
from app.engine.host_memory import give_back_host_memory, should_release
from app.engine.kept_runs import sweep_kept_runs
from app.engine.memory_net import Finished, MemoryNet, Outcome, spare, sure
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

        Raises:
            DeviceBrokenError: The job failed because the device computes nothing any more. It is
                not told so: the app runs it again in another process, from what is kept.
        """
        began_s = self._device.clock_s()
        self._cancel.flag = flag
        self._guard.receipts = None
        net = MemoryNet(
            job,
            send=self._send,
            begin=lambda left, send: self._begin(left, flag, relief, keep_folder, send),
            evict=self._shelf.evict,
            drop=self._shelf.drop,
            on_cpu=self._device.kind == "cpu",
        )
        ended = net.carry_out()
        if isinstance(ended, JobFailed) and not self._still_computes():
            net.stop(goes_on=True)
            raise DeviceBrokenError(f"{self._device.name} stopped working: {ended.error.message}")
        goes_on = (isinstance(ended, JobCancelled) and flag.goes_on) or _lacked_memory(ended)
        if not goes_on:
            spare(lambda: sure(self._guard.forget_receipts))
        # Here, not in a handler: a live exception keeps its frames, and they hold our tensors.
        if isinstance(ended, JobFailed) or (isinstance(ended, Finished) and ended.report is None):
            sure(self._shelf.evict)
        if not isinstance(ended, Finished) or ended.report is None:
            net.stop(goes_on=goes_on)
        if not isinstance(ended, Finished):
            self._send(ended)
            if isinstance(ended, JobCancelled):
                # Last: to give memory back, the driver waits for all that is on its way.
                sure(self._shelf.release)
            return
        spare(self._tidy)
        seconds = self._device.clock_s() - began_s
        spare(lambda: _log_run(job, seconds, net.run.phases.seconds if net.run else {}))
        memory = sure(self._meter.measure)
        sure(
            lambda: self._send(
                JobFinished(job_id=job.id, seconds=seconds, memory=memory, report=ended.report)
            )
        )

    def _begin(
        self,
        job: Job,
        flag: CancelFlag,
        relief: ReliefRequests,
        keep_folder: Path | None,
        send: Callable[[Any], None],
    ) -> Run:
        """A run of a job, which knows what runs before it have saved."""
        if keep_folder is not None:
            sweep_kept_runs(keep_folder)
            receipts = self._guard.receipts = Receipts(keep_folder, job.id)
            job = _with_saved(job, receipts.saved(), send)
        return Run(
            RunContext(
                job=job,
                shelf=self._shelf,
                meter=self._meter,
                send=send,
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

    def _still_computes(self) -> bool:
        device = self._device
        return device.kind == "cpu" or still_computes(device.torch_device)

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


def _with_saved(job: Job, saved: dict[int, str], send: Callable[[Any], None]) -> Job:
    """The job, with what a run before this one had saved and could not tell."""
    new = [index for index in saved if index not in job.saved and index < job.request.images]
    for index in new:
        log.info("job %s: image %d was saved before", job.id, index)
        seed = job.request.seed_of(index)
        send(ImageDone(job_id=job.id, index=index, seed=seed, path=saved[index]))
    return replace(job, saved=(*job.saved, *new)) if new else job


def _lacked_memory(ended: Outcome) -> bool:
    """Whether the job failed only for lack of memory: tried again, it goes on where it was."""
    return isinstance(ended, JobFailed) and ended.error.code in LACK_OF_MEMORY_CODES


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
