"""The machine as the planner wants it: from a sample, the settings, and what was measured here."""

from PySide6.QtCore import QObject, Signal, Slot

from app.core.calibration_store import CalibrationStore
from app.core.device import DeviceSnapshot, Sample
from app.core.events import EngineReady, JobFinished, QueueChanged
from app.core.machine_speeds import MachineSpeeds
from app.core.measured_run import CalibrationKey
from app.core.profile import DeviceProfile, HostProfile
from app.engine.machine import CPU, calibration_key, device_profile, host_profile, installed_torch
from app.ui.models.settings_model import SettingsModel


class MachineProfiles(QObject):
    """Called with a sample, gives the device and the computer a run would use.

    Signals:
        changed(): The same sample gives others from now on.
    """

    changed = Signal()

    def __init__(
        self, settings: SettingsModel, store: CalibrationStore, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._settings = settings
        self._store = store
        self._driver = ""
        self._torch = installed_torch()
        self._engine_device: str = ""
        self._learning = False
        self._chosen = settings.settings.device
        settings.changed.connect(self._on_settings_changed)

    def __call__(self, sample: Sample) -> tuple[DeviceProfile, HostProfile]:
        """The device that is chosen, or that the engine found, and the computer."""
        device = device_profile(
            None if self.on_cpu else sample.device,
            sample.host,
            store=self._store,
            torch_version=self._torch,
            driver=self._driver,
        )
        return device, host_profile(sample.host)

    @property
    def on_cpu(self) -> bool:
        """Whether runs go to the CPU although there may be a GPU."""
        if self._chosen == CPU:
            return True
        # The engine knows better than the driver: its torch may have no support for the GPU.
        return self._chosen == "auto" and self._engine_device == CPU

    def key_of(self, speeds: MachineSpeeds, device: DeviceSnapshot | None) -> CalibrationKey:
        """What measured speeds are kept under, so that plans find them.

        Args:
            speeds: As the engine told them.
            device: The GPU as its driver tells it, if there is one.
        """
        name = speeds.device_name if device is None or speeds.device == CPU else device.name
        return calibration_key(name, driver=self._driver, torch_version=speeds.torch_version)

    def tell_measured(self) -> None:
        """Something was measured and kept: plans are made anew."""
        self.changed.emit()

    @Slot(str)
    def set_driver(self, driver: str) -> None:
        """What the GPU's driver calls itself; measurements are kept under it."""
        if driver != self._driver:
            self._driver = driver
            self.changed.emit()

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent: on which device the engine is, and what runs showed."""
        if isinstance(event, JobFinished) and event.report is not None:
            self._learning = True
        elif isinstance(event, QueueChanged) and self._learning:
            # Told after what the run showed was kept.
            self._learning = False
            self.changed.emit()
        elif isinstance(event, EngineReady):
            known = self._torch, self._engine_device
            self._torch = event.torch_version
            self._engine_device = event.device
            if known != (event.torch_version, event.device):
                self.changed.emit()

    @Slot()
    def _on_settings_changed(self) -> None:
        chosen = self._settings.settings.device
        if chosen != self._chosen:
            self._chosen = chosen
            self._engine_device = ""
            self.changed.emit()
