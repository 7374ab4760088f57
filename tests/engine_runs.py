"""Jobs run by the engine's own code in this process, on any device, with its events in a list."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from app.core.events import ImageDone, JobCancelled, JobFailed, JobFinished
from app.core.jobs import Job
from app.core.metadata import ImageRecord, record_from_json
from app.core.paths import app_paths
from app.core.policy import MemoryPolicy, Precision, Precisions
from app.core.run_report import RunReport
from app.core.units import GIB
from app.engine.cancel import CancelFlag
from app.engine.compute_device import ComputeDevice
from app.engine.job_run import JobRunner
from app.engine.relief import ReliefRequests
from app.engine.save_guard import SaveGuard
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Failure, Story

ENDS = (JobFinished, JobFailed, JobCancelled)
FULL = Precisions(
    text_encoder=Precision.FP32, transformer=Precision.FP32, autoencoder=Precision.FP32
)
"""On a simulated GPU as on the CPU, where tiny models and the demo are stored so."""
POLICY = MemoryPolicy(headroom_bytes=0, ram_headroom_bytes=0, precisions=FULL)
Event = TypeVar("Event")


class Runs:
    """An engine without its process.

    Attributes:
        events: Of the last run.
        relief: Of the present run.
        flag: Of the present run.
        on_event: Called with each event; may raise, as a process may end at any moment.
    """

    def __init__(self, device: ComputeDevice) -> None:
        self.events: list[Any] = []
        self.relief = ReliefRequests()
        self.flag = CancelFlag()
        self.on_event: Callable[[Any], None] = lambda _event: None
        self.device = device
        gc.freeze()  # As the engine's process does: collecting is a part of each recovery.
        self.runner = JobRunner(
            device=device, send=self._take, guard=SaveGuard(), paths=app_paths()
        )

    def run(self, job: Job, *, keep_folder: Path | None = None) -> list[Any]:
        """All events of a job."""
        self.events = []
        self.relief, self.flag = ReliefRequests(), CancelFlag()
        self.runner.run(job, self.flag, self.relief, keep_folder=keep_folder)
        assert isinstance(self.events[-1], ENDS)
        return self.events

    def _take(self, event: object) -> None:
        self.events.append(event)
        self.on_event(event)


def simulated(*failures: Failure, capacity_bytes: int = GIB, **story: Any) -> SimulatedDevice:
    return SimulatedDevice(Story(capacity_bytes=capacity_bytes, failures=failures, **story))


def strict(job: Job) -> Job:
    return replace(job, policy=replace(job.policy, strict=True))


def of_kind(events: list[Any], kind: type[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def pixels(events: list[Any]) -> dict[int, np.ndarray]:
    """Of the images that a run has saved, by index."""
    found: dict[int, np.ndarray] = {}
    for image in of_kind(events, ImageDone):
        assert image.path is not None
        with Image.open(image.path) as picture:
            found[image.index] = np.asarray(picture).astype(int)
    return found


def same(one: dict[int, np.ndarray], other: dict[int, np.ndarray], *, levels: int = 0) -> bool:
    """Whether two runs made the same pictures, but for so many levels."""
    return one.keys() == other.keys() and all(
        one[index].shape == other[index].shape
        and int(np.abs(one[index] - other[index]).max()) <= levels
        for index in one
    )


def report_of(events: list[Any]) -> RunReport:
    """Of a run that finished."""
    finished = events[-1]
    assert isinstance(finished, JobFinished), finished
    assert finished.report is not None
    return finished.report


def record_of(image: ImageDone) -> ImageRecord:
    assert image.path is not None
    with Image.open(image.path) as picture:
        picture.load()
        record = record_from_json(picture.info["headroom"])
    assert record is not None
    return record
