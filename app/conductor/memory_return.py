"""Sees that memory of the GPU that others used is free again, and stays so, during a run.

Pure: it is told events and samples and has no clock of its own. The rule, so that nothing flaps:
others must use clearly less than the most they have used since the plan in force was made, for some
seconds without a break, and it is said once in a phase. What the run makes of it is the engine's.
"""

from dataclasses import dataclass

from app.core.device import DeviceSnapshot, Sample
from app.core.events import (
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
from app.core.plan import GenerationPlan, Placement
from app.core.units import MIB, format_bytes
from app.monitor.device_watch import is_planned_device

STABLE_S = 5.0
"""A program that loads or changes its level gives memory back and takes it again at once."""
MIN_BACK_BYTES = 256 * MIB
BACK_SHARE = 0.02
"""Of the device: what came back has to be more than this for weights to move."""
CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBack:
    """There is more memory for a run than when its plan was made.

    Attributes:
        job_id: Of the run.
        sentence: For people.
    """

    job_id: str
    sentence: str


class ReturnWatch:
    """Follows one engine and its runs; used by one thread."""

    def __init__(self) -> None:
        self._on_cpu = False
        self._job_id: str | None = None
        self._plan: GenerationPlan | None = None
        self._said = False
        self._reported_bytes: int | None = None
        self._most_bytes = 0
        self._since_s: float | None = None
        self._least_back_bytes = 0

    def note(self, event: object) -> None:
        """Take an event of the engine or about it."""
        match event:
            case EngineReady():
                self._on_cpu = event.device == CPU
            case PlanMade():
                if event.job_id != self._job_id:
                    self._said = False
                self._job_id, self._plan = event.job_id, event.plan
                self._forget_level()
            case PhaseStarted():
                self._said = False
                # Of another phase, which may have held more.
                self._reported_bytes = None
                self._since_s = None
            case StepDone() | PhaseFinished():
                self._reported_bytes = event.memory.device_reserved_bytes
            case JobFinished() | JobCancelled() | JobFailed():
                self._job_id = self._plan = None
            case EngineStateChanged(state=EngineState.STOPPED | EngineState.RESTARTING):
                self._job_id = self._plan = None
            case _:
                pass

    def look(self, sample: Sample) -> MemoryBack | None:
        """Take a sample; what came back when that is to be said."""
        plan, job_id, device = self._plan, self._job_id, sample.device
        if plan is None or job_id is None or device is None or self._on_cpu:
            return None
        if not is_planned_device(device, plan):
            return None
        others_bytes = self._others_bytes(device)
        if others_bytes is None:
            return None
        self._most_bytes = max(self._most_bytes, others_bytes)
        back_bytes = self._most_bytes - others_bytes
        if back_bytes < max(MIN_BACK_BYTES, int(device.total_bytes * BACK_SHARE)):
            self._since_s = None
            return None
        if self._since_s is None:
            self._since_s, self._least_back_bytes = sample.time_s, back_bytes
        self._least_back_bytes = min(self._least_back_bytes, back_bytes)
        stable = sample.time_s - self._since_s >= STABLE_S
        if self._said or not stable or not _wants_more(plan):
            return None
        self._said = True
        back = format_bytes(self._least_back_bytes)
        self._forget_level()
        sentence = f"Other programs gave {back} of the GPU's memory back."
        return MemoryBack(job_id=job_id, sentence=sentence)

    def _others_bytes(self, device: DeviceSnapshot) -> int | None:
        """What others use; None while that cannot be told from what is ours."""
        reported_bytes = self._reported_bytes
        if device.engine_bytes is not None:
            return max(0, device.used_bytes - max(device.engine_bytes, reported_bytes or 0))
        # The engine's own word holds from the first step of a phase to the phase's end.
        return None if reported_bytes is None else max(0, device.used_bytes - reported_bytes)

    def _forget_level(self) -> None:
        """Begin anew with what others use now."""
        self._most_bytes = 0
        self._since_s = None
        self._reported_bytes = None


def _wants_more(plan: GenerationPlan) -> bool:
    """Whether weights come in while it runs."""
    return any(one.placement is Placement.STREAMED for one in plan.components)
