"""Running one job after the other, and telling how each goes."""

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch

from app import __version__
from app.core.errors import AppError, EngineError, ErrorInfo, RequestError, describe
from app.core.events import (
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    PhaseFinished,
    PhaseStarted,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.engine import pipeline
from app.engine.cancel import CancelFlag, CancelPoints, CancelRequestedError
from app.engine.devices import release_cached_memory, synchronize
from app.engine.engine_memory import MemoryMeter
from app.engine.loader import LoadedModel, load_model, model_key, networks
from app.engine.model_folder import inspect_model_folder
from app.engine.out_of_memory import is_out_of_memory, out_of_memory_error
from app.engine.preview import fit_preview_matrix
from app.engine.prompt_cut import prompt_cut_message
from app.engine.relief import ReliefRequests
from app.engine.save_guard import SaveGuard
from app.engine.saving import ImageSaver

log = logging.getLogger(__name__)


class JobRunner:
    """Keeps the loaded model from job to job; works in the thread that calls it."""

    def __init__(
        self, *, device: torch.device, send: Callable[[Any], None], guard: SaveGuard
    ) -> None:
        self._device = device
        self._send = send
        self._guard = guard
        self._meter = MemoryMeter(device)
        self._cancel = CancelPoints()
        self._relief = ReliefRequests()
        self._model: LoadedModel | None = None
        self._phase = Phase.LOAD
        self._seconds: dict[str, float] = {}

    def run(self, job: Job, flag: CancelFlag, relief: ReliefRequests) -> None:
        """Work on a job and send its events; the last is that it finished or how it ended."""
        started_s = time.perf_counter()
        self._cancel.flag = flag
        self._relief = relief
        self._seconds = {}
        self._meter.start_job()
        ended_early = self._attempt(job)
        if ended_early is not None:
            # Here, not in a handler: a live exception keeps its frames, and they hold our tensors.
            self._clean_up()
            self._send(ended_early)
            return
        seconds = time.perf_counter() - started_s
        _log_run(job, seconds, self._seconds)
        self._send(JobFinished(job_id=job.id, seconds=seconds, memory=self._meter.measure()))

    def _attempt(self, job: Job) -> JobCancelled | JobFailed | None:
        """Run a job; what to send when it did not come to its end."""
        failure: ErrorInfo
        try:
            self._run_phases(job)
        except CancelRequestedError:
            return JobCancelled(job_id=job.id)
        except AppError as error:
            log.info("job %s failed: %s", job.id, error)
            failure = error.info()
        except Exception as error:
            if is_out_of_memory(error):
                failure = out_of_memory_error(error, self._phase, self._device).info()
                log.warning("%s (%s)", failure.message, error)
            else:
                log.exception("job %s failed in phase %s", job.id, self._phase.value)
                failure = describe(error)
        else:
            return None
        return JobFailed(job_id=job.id, error=failure)

    def _run_phases(self, job: Job) -> None:
        request = job.request
        for problem in request.problems():
            raise RequestError(problem.message, code=problem.code)
        model = self._load(job)
        cut = prompt_cut_message(model.info, request.prompt)
        if cut is not None:
            self._send(Notice(job_id=job.id, code="prompt.cut", message=cut))
        prompts = pipeline.prompts_to_encode(model, request)
        cached = all(prompt in model.embeddings for prompt in prompts)
        with self._in_phase(job, Phase.ENCODE, note="cached" if cached else ""):
            pipeline.encode(model, prompts)
        with self._in_phase(job, Phase.DENOISE):
            latents = pipeline.denoise(
                model,
                request,
                previews=job.previews,
                on_step=lambda step: self._on_step(job, step),
            )
        with self._in_phase(job, Phase.DECODE):
            images = pipeline.decode(model, latents)
        with self._in_phase(job, Phase.SAVE):
            self._save(job, model, images)

    @contextlib.contextmanager
    def _in_phase(self, job: Job, phase: Phase, *, note: str = "") -> Generator[None]:
        self._cancel.flag.check()
        self._phase = phase
        self._send(PhaseStarted(job_id=job.id, phase=phase, note=note))
        started_s = time.perf_counter()
        yield
        synchronize(self._device)
        seconds = time.perf_counter() - started_s
        self._seconds[phase.value] = seconds
        self._send(
            PhaseFinished(job_id=job.id, phase=phase, seconds=seconds, memory=self._meter.measure())
        )

    def _load(self, job: Job) -> LoadedModel:
        folder = Path(job.model_folder)
        key = model_key(folder)
        kept = self._model if self._model is not None and self._model.key == key else None
        with self._in_phase(job, Phase.LOAD, note="" if kept is None else "already loaded"):
            model = kept
            if model is None:
                info = inspect_model_folder(folder)
                # First, so that two models are never in memory at once.
                self._drop_model()
                model = load_model(info, key, self._device, self._cancel.flag.check)
                for network in networks(model.pipeline):
                    self._cancel.watch(network)
                self._model = model
            if job.previews and model.preview_matrix is None:
                model.preview_matrix = fit_preview_matrix(model)
        return model

    def _on_step(self, job: Job, step: pipeline.Step) -> None:
        self._send(
            StepDone(
                job_id=job.id,
                step=step.number,
                steps=step.total,
                seconds=step.seconds,
                memory=self._meter.measure(),
                preview=step.preview,
            )
        )
        self._cancel.flag.check()

    def _save(
        self, job: Job, model: LoadedModel, images: tuple[pipeline.DecodedImage, ...]
    ) -> None:
        saver = ImageSaver(
            job=job,
            info=model.info,
            app_version=__version__,
            seconds=dict(self._seconds),
            memory=self._meter.measure(),
            guard=self._guard,
        )
        bad: list[int] = []
        for index, image in enumerate(images):
            if image.rgb is None:
                bad.append(index)
            elif index not in job.saved:
                self._send(saver.save(image.rgb, index))
        if bad:
            raise _bad_image_error(job, bad)

    def _drop_model(self) -> None:
        self._model = None
        self._clean_up()

    def _clean_up(self) -> None:
        """Return what a stopped or dropped pipeline still holds."""
        if self._model is not None:
            # Networks that are offloaded in turn go back to RAM; else this does nothing.
            self._model.pipeline.maybe_free_model_hooks()
        gc.collect()
        release_cached_memory(self._device)


def _bad_image_error(job: Job, bad: list[int]) -> EngineError:
    seeds = ", ".join(str(job.request.seed_of(index)) for index in bad)
    return EngineError(
        f"The model made no picture for seed {seeds}, only a blank or invalid one: try another "
        "seed or size; if it happens again, the model's files may be damaged.",
        code="engine.bad_image",
    )


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
