"""Each run that finished teaches the forecast of this GPU."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot
from app.core.events import EngineReady
from app.core.run_report import RunReport
from app.engine.machine import CPU, calibration_key
from app.monitor.device_watch import is_planned_device

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """What is known of a run at its end.

    Attributes:
        report: Of the engine.
        engine: It ran in.
        device: The GPU as last seen, or None.
    """

    report: RunReport
    engine: EngineReady
    device: DeviceSnapshot | None


OnReport = Callable[[FinishedRun], None]


class RunLearning:
    """Writes measured runs into the calibration; called in the conductor's thread."""

    def __init__(self, store: CalibrationStore) -> None:
        self._store = store
        # A plain reference that one thread writes and another reads.
        self._driver = ""

    def set_driver(self, driver: str) -> None:
        """What the GPU's driver calls itself; may be called in any thread."""
        self._driver = driver

    def learn(self, run: FinishedRun) -> None:
        """Keep what a run showed; a simulated device teaches nothing about real ones."""
        engine, device = run.engine, run.device
        if engine.device == CPU:
            name = engine.device_name
        elif device is not None and is_planned_device(device, run.report.plan):
            # Plans are made under the name that the driver gives.
            name = device.name
        else:
            return
        key = calibration_key(name, driver=self._driver, torch_version=engine.torch_version)
        try:
            self._store.record_run(key, run.report.plan, run.report.measured)
        except OSError as error:
            log.info("what the run showed cannot be kept: %s", error)
