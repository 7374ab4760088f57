"""How much of the GPU's memory is ours where the driver does not tell it for each process.

Under Windows no driver does, and the engine tells it only at the end of each step and phase. What
grows between two of its words, above all while a model is loaded, is taken for ours, up to what
the plan in force expects of that phase; without a plan it is taken for others'.
"""

from dataclasses import replace

from app.core.device import DeviceSnapshot, Sample
from app.core.events import (
    EngineMemory,
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Phase
from app.core.plan import GenerationPlan

CPU = "cpu"


class OwnUse:
    """Takes the engine's events, and tells samples apart with what they say."""

    def __init__(self) -> None:
        self._on_cpu = False
        self._forget()

    def _forget(self) -> None:
        self._reserved_bytes: int | None = None
        self._plan: GenerationPlan | None = None
        self._phase: Phase | None = None
        self._others_bytes: int | None = None
        self._is_news = False

    def note(self, event: object) -> None:
        """Take one ConductorEvent."""
        match event:
            case PhaseStarted(phase=phase):
                self._phase = phase
            case PhaseFinished() | StepDone():
                self._take(event.memory)
            case JobFinished():
                self._take(event.memory)
                self._phase = None
            case JobCancelled() | JobFailed():
                self._phase = None
            case PlanMade(plan=plan):
                self._plan = plan
            case EngineReady(device=device):
                self._on_cpu = device == CPU
            case EngineStateChanged(
                state=EngineState.STARTING | EngineState.RESTARTING | EngineState.STOPPED
            ):
                # What the process before it held is not ours any more.
                self._forget()
            case _:
                pass

    def told_apart(self, sample: Sample) -> Sample:
        """The sample, with what our engine holds on the GPU where that can be known."""
        device = sample.device
        if device is None:
            return sample
        if device.engine_bytes is not None:
            # The driver counts more than torch, and is late at times.
            ours = max(device.engine_bytes, min(self._reserved_bytes or 0, device.used_bytes))
        else:
            guessed = self._guessed(device)
            if guessed is None:
                return sample
            ours = guessed
        return replace(sample, device=replace(device, engine_bytes=ours))

    def _guessed(self, device: DeviceSnapshot) -> int | None:
        reserved = min(self._reserved_bytes or 0, device.used_bytes)
        if self._phase is None or self._is_news or self._others_bytes is None:
            self._others_bytes = device.used_bytes - reserved
            self._is_news = False
        grown = device.used_bytes - self._others_bytes
        ours = max(reserved, min(grown, self._expected_bytes()))
        return None if self._reserved_bytes is None and ours == 0 else ours

    def _expected_bytes(self) -> int:
        """What the present phase may hold by its plan."""
        if self._plan is None or self._phase is None or self._on_cpu:
            return 0
        phases = self._plan.phases
        return max((one.needed_bytes for one in phases if one.phase is self._phase), default=0)

    def _take(self, memory: EngineMemory) -> None:
        self._reserved_bytes = memory.device_reserved_bytes
        self._is_news = True
