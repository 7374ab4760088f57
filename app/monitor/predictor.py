"""Foresees that memory will run out: the plan's remaining phases against what the samples show.

Pure: it is told events and samples and has no clock of its own. It only ever asks for less; that
memory has come back is seen elsewhere.
"""

from dataclasses import replace

from app.core.device import Sample
from app.core.events import (
    EngineMemory,
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseFinished,
    PlanMade,
    StepDone,
)
from app.core.units import MIB
from app.monitor.alerts import shortage_sentence
from app.monitor.device_watch import DeviceWatch
from app.monitor.host_watch import RamWatch, ram_watch
from app.monitor.prediction import Prediction
from app.monitor.run_progress import RunProgress
from app.monitor.shortage import Alarm, Moment, Shortage

MIN_FURTHER_BYTES = 256 * MIB
FURTHER_SHARE = 0.02
"""Of the memory: so much more has to go before the same phase is told a second time."""
CPU = "cpu"

__all__ = ["MemoryPredictor", "Prediction"]


class _Run:
    """One run: its plan and progress, and what is watched and told during it."""

    def __init__(self, first: PlanMade, *, on_cpu: bool, before: EngineMemory | None) -> None:
        self.progress = RunProgress(first, before=before)
        self._on_cpu = on_cpu
        self._device_watch = DeviceWatch()
        self._device_alarm = _alarm(first.plan.total_bytes)
        self._ram: tuple[RamWatch, Alarm] | None = None

    def look(self, sample: Sample) -> Prediction | None:
        moment = Moment(
            plan_number=self.progress.plan_number, phase_number=self.progress.phase_number
        )
        found: Prediction | None = None
        if sample.device is not None and not self._on_cpu:
            shortage = self._device_watch.look(sample.time_s, sample.device, self.progress)
            if self._device_alarm.look(shortage, moment) and shortage is not None:
                found = self._prediction(shortage, device_bytes=shortage.short_bytes)
        if self._ram is None:
            total_bytes = sample.host.total_bytes
            self._ram = (
                ram_watch(total_bytes=total_bytes, on_cpu=self._on_cpu),
                _alarm(total_bytes),
            )
        watch, alarm = self._ram
        shortage = watch.look(sample.time_s, sample.host, self.progress)
        if alarm.look(shortage, moment) and shortage is not None:
            # On the CPU, RAM is the device.
            device_bytes = shortage.short_bytes if self._on_cpu else 0
            if found is not None:
                return replace(found, host_bytes=shortage.short_bytes)
            found = self._prediction(
                shortage, device_bytes=device_bytes, host_bytes=shortage.short_bytes
            )
        return found

    def _prediction(
        self, shortage: Shortage, *, device_bytes: int, host_bytes: int = 0
    ) -> Prediction:
        return Prediction(
            job_id=self.progress.job_id,
            cause=shortage.cause,
            phase=shortage.phase,
            device_bytes=device_bytes,
            host_bytes=host_bytes,
            in_s=shortage.in_s,
            sentence=shortage_sentence(shortage),
        )


class MemoryPredictor:
    """Follows one engine and its runs; used by one thread."""

    def __init__(self) -> None:
        self._on_cpu = False
        self._run: _Run | None = None
        self._report: EngineMemory | None = None

    def note(self, event: object) -> None:
        """Take an event of the engine or about it; those that say nothing of memory are ignored."""
        if isinstance(event, StepDone | PhaseFinished | JobFinished):
            # The next run begins with what this one leaves on the device.
            self._report = event.memory
        match event:
            case EngineReady():
                self._on_cpu = event.device == CPU
            case EngineStateChanged(state=EngineState.STOPPED | EngineState.RESTARTING):
                # The run begins anew in another process, with a plan of its own.
                self._run = self._report = None
            case PlanMade() if self._run is None or event.job_id != self._run.progress.job_id:
                self._run = _Run(event, on_cpu=self._on_cpu, before=self._report)
            case JobFinished() | JobCancelled() | JobFailed():
                self._run = None
            case _:
                if self._run is not None:
                    self._run.progress.note(event)

    def look(self, sample: Sample) -> Prediction | None:
        """Take a sample; a prediction when one is due."""
        return None if self._run is None else self._run.look(sample)


def _alarm(total_bytes: int) -> Alarm:
    further_bytes = max(MIN_FURTHER_BYTES, int(total_bytes * FURTHER_SHARE))
    return Alarm(margin_bytes=further_bytes // 4, further_bytes=further_bytes)
