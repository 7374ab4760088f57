"""What a run works with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.calibration_store import CalibrationStore
from app.core.jobs import Job
from app.engine.cancel import CancelFlag
from app.engine.compute_device import ComputeDevice
from app.engine.engine_memory import MemoryMeter
from app.engine.relief import ReliefRequests
from app.engine.run.model_shelf import ModelShelf
from app.engine.run.tools import RunTools
from app.engine.save_guard import SaveGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One job, and all that outlives it.

    Attributes:
        job: To run.
        shelf: Holds the model.
        meter: Reads the memory.
        send: Takes events.
        guard: Around files that are written.
        cancel: Whether the job is to stop.
        relief: What is asked of it meanwhile.
        keep_folder: Where latents are kept; None keeps them in memory only.
        forecast_cache: Where forecasts of models that are not among the known ones are kept.
        converted_folder: Where weights are kept that were quantized here.
        store: What was measured on this machine; None plans with assumptions only.
        tools: That make it quicker.
    """

    job: Job
    shelf: ModelShelf
    meter: MemoryMeter
    send: Callable[[Any], None]
    guard: SaveGuard
    cancel: CancelFlag
    relief: ReliefRequests
    keep_folder: Path | None
    forecast_cache: Path
    converted_folder: Path
    store: CalibrationStore | None
    tools: RunTools

    @property
    def device(self) -> ComputeDevice:
        """That is computed on."""
        return self.shelf.device
