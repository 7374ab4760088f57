"""Builders of jobs and events for tests of the window's models and panels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtGui import QColor, QImage

from app.core.errors import ErrorInfo
from app.core.events import Preview, QueueChanged, StepDone
from app.core.jobs import Job, JobState, OutputTarget
from app.core.request import GenerationRequest
from tests.fakes.engine_memory import engine_memory

MEMORY = engine_memory(host_bytes=2)


def job(
    job_id: str = "a",
    state: JobState = JobState.RUNNING,
    *,
    error: str = "",
    model_folder: str = "/models/demo",
    **request: Any,
) -> Job:
    """A job; further arguments are its request's."""
    base = GenerationRequest(prompt=f"prompt of {job_id}")
    return Job(
        id=job_id,
        request=replace(base, **request),
        model_folder=model_folder,
        output=OutputTarget(folder="/pictures"),
        state=state,
        error=ErrorInfo(code="test", message=error) if error else None,
    )


def queue(*jobs: Job, paused: bool = False) -> QueueChanged:
    return QueueChanged(jobs=jobs, paused=paused)


def step(
    number: int, job_id: str = "a", *, seconds: float = 0.5, preview: Preview | None = None
) -> StepDone:
    return StepDone(
        job_id=job_id, step=number, steps=8, seconds=seconds, memory=MEMORY, preview=preview
    )


def preview(colour: tuple[int, int, int] = (200, 10, 20), edge_px: int = 4) -> Preview:
    return Preview(width_px=edge_px, height_px=edge_px, rgb=bytes(colour) * edge_px * edge_px)


def write_png(
    path: Path, colour: str = "#c80a14", *, width_px: int = 128, height_px: int = 128
) -> Path:
    image = QImage(width_px, height_px, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    assert image.save(str(path))
    return path
