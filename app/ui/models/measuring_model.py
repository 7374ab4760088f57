"""How fast this machine is: asked of the engine while it is idle, and kept for all plans."""

import enum
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from app.core.calibration_store import CalibrationStore
from app.core.device import Sample
from app.core.events import CalibrationDone
from app.core.machine_speeds import MachineSpeeds
from app.engine.protocol import Calibrate
from app.ui.models.background import Background
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.engine_model import EngineModel
from app.ui.models.job_control import JobControl
from app.ui.models.machine_profiles import MachineProfiles

log = logging.getLogger(__name__)

SAMPLES_AFTER = 2
"""The first one may have been begun while the engine still measured."""


class MeasuringStage(enum.Enum):
    """How far it is."""

    NOT_YET = "not yet"
    """Not measured since the start of the app."""
    MEASURING = "measuring"
    """The engine is at it, or is being started for it."""
    DONE = "done"
    """Measured and kept."""
    FAILED = "failed"
    """Not measured, or not kept; see `problem`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringState:
    """What is known.

    Attributes:
        stage: How far it is.
        speeds: That were measured, or None.
        problem: What went wrong, or what is wrong with the file it is kept in, in a sentence; ""
            for nothing.
    """

    stage: MeasuringStage = MeasuringStage.NOT_YET
    speeds: MachineSpeeds | None = None
    problem: str = ""


class MeasuringModel(QObject):
    """Has the engine measure the machine, and keeps what it found.

    Signals:
        changed(MeasuringState): It is further, or may be begun now, or not any more.
    """

    changed = Signal(object)

    def __init__(
        self,
        engine: EngineModel,
        control: JobControl,
        catalog: CatalogModel,
        machine: MachineProfiles,
        background: Background,
        *,
        store: CalibrationStore,
        scratch: Path,
        parent: QObject | None = None,
    ) -> None:
        """Measure nothing before `measure`.

        Args:
            engine: Tells what was measured, and whether a run is going on.
            control: Has it measured.
            catalog: Its models' disks are measured.
            machine: Plans with what is kept.
            background: Where it is written.
            store: Keeps it.
            scratch: Folder for a temporary file.
            parent: Owner.
        """
        super().__init__(parent)
        self._control = control
        self._engine, self._catalog, self._machine = engine, catalog, machine
        self._background = background
        self._store = store
        self._scratch = scratch
        self._state = MeasuringState()
        self._sample: Sample | None = None
        self._found: MachineSpeeds | None = None
        self._samples_to_come = 0
        engine.calibrated.connect(self._on_calibrated)
        engine.queue_changed.connect(self._on_queue_changed)
        engine.progress_changed.connect(self._on_queue_changed)

    @property
    def state(self) -> MeasuringState:
        """What is known now."""
        return self._state

    @property
    def possible(self) -> bool:
        """Whether it can be begun: it would only measure how much a run leaves."""
        is_measuring = self._state.stage is MeasuringStage.MEASURING
        return not is_measuring and self._engine.current_job is None

    @Slot()
    def measure(self) -> None:
        """Measure the machine, unless a run is going on."""
        if not self.possible:
            return
        choices = map(self._catalog.row, range(self._catalog.rowCount()))
        folders = tuple(str(choice.folder) for choice in choices if choice.folder is not None)
        self._tell(MeasuringState(stage=MeasuringStage.MEASURING))
        self._control.calibrate(Calibrate(model_folders=folders, scratch_folder=str(self._scratch)))

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample of the monitor thread: it tells what the engine holds on the GPU."""
        self._sample = sample
        if self._found is not None:
            self._samples_to_come -= 1
            if self._samples_to_come <= 0:
                self._keep(self._found)

    @Slot(object)
    def _on_calibrated(self, event: CalibrationDone) -> None:
        if self._state.stage is not MeasuringStage.MEASURING:
            return
        if event.speeds is None:
            problem = (
                self.tr("It is not known why.") if event.error is None else event.error.message
            )
            self._tell(MeasuringState(stage=MeasuringStage.FAILED, problem=problem))
        elif event.speeds.reserved_bytes is None or self._on_gpu() is None:
            self._keep(event.speeds)
        else:
            self._found, self._samples_to_come = event.speeds, SAMPLES_AFTER

    @Slot(object)
    def _on_queue_changed(self, _what: object) -> None:
        self.changed.emit(self._state)

    def _on_gpu(self) -> int | None:
        """What the driver counts for the engine on the GPU."""
        device = None if self._sample is None else self._sample.device
        return None if device is None else device.engine_bytes

    def _keep(self, speeds: MachineSpeeds) -> None:
        self._found = None
        counted, reserved = self._on_gpu(), speeds.reserved_bytes
        # A run that began meanwhile has changed what the engine holds.
        idle = self._engine.current_job is None
        if idle and counted is not None and reserved is not None and counted > reserved:
            speeds = replace(speeds, context_bytes=counted - reserved)
        key = self._machine.key_of(speeds, None if self._sample is None else self._sample.device)
        self._background.run(
            lambda: self._store.record_speeds(key, speeds),
            lambda _nothing: self._on_kept(speeds),
            lambda error: self._on_not_kept(speeds, error),
            keep=True,
        )

    def _on_kept(self, speeds: MachineSpeeds) -> None:
        self._tell(
            MeasuringState(stage=MeasuringStage.DONE, speeds=speeds, problem=self._store.problem)
        )
        self._machine.tell_measured()

    def _on_not_kept(self, speeds: MachineSpeeds, error: Exception) -> None:
        log.info("what was measured cannot be kept: %s", error)
        problem = self.tr("What was measured cannot be kept ({reason}).").format(
            reason=getattr(error, "strerror", None) or error
        )
        self._tell(MeasuringState(stage=MeasuringStage.FAILED, speeds=speeds, problem=problem))

    def _tell(self, state: MeasuringState) -> None:
        self._state = state
        self.changed.emit(state)
