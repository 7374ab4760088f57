"""How far a run is in its plan, and what it still needs."""

from dataclasses import dataclass

from app.core.events import (
    EngineMemory,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Phase
from app.core.plan import PhasePlan

UNKNOWN_STEPS = 4
"""Of a denoise that has not done one: klein's four are the fewest, hence the longest."""
MAX_GUESSED_LOOK_S = 10.0
_ORDER = tuple(Phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one of the remaining phases needs of the device.

    Attributes:
        phase: Which.
        plan: What was planned for it.
        begins_in_s: Until it begins, as planned; 0 for the present one.
        ends_in_s: Until it ends.
    """

    phase: Phase
    plan: PhasePlan
    begins_in_s: float
    ends_in_s: float

    @property
    def bytes(self) -> int:
        """With the plan's uncertainty."""
        return self.plan.needed_bytes


class RunProgress:
    """The plan in force, and how far it is carried out.

    Attributes:
        job_id: Of the job.
        plan: In force.
        plan_number: Counts the plans of this job, from 1.
        phase: The last one begun; None before the first.
        phase_number: Counts the phases begun, a repeated one again.
        before: The engine's last word on its own memory before this job, or None.
        report: Its latest word in this job, or None.
    """

    def __init__(self, first: PlanMade, *, before: EngineMemory | None = None) -> None:
        """Begin before the first phase.

        Args:
            first: The job's first plan.
            before: The engine's last word on its own memory before this job, or None.
        """
        self.job_id = first.job_id
        self.plan = first.plan
        self.plan_number = 1
        self.phase: Phase | None = None
        self.phase_number = 0
        self.before = before
        self.report: EngineMemory | None = None
        self._planned_in = 0
        self._parts_later = 0
        self._steps_left: int | None = None
        self._step_s: float | None = None

    def note(self, event: object) -> None:
        """Take an event of this job."""
        match event:
            case PlanMade():
                self.plan = event.plan
                self.plan_number += 1
                self._planned_in = self.phase_number
                # What was used so far was used under another plan.
                self._steps_left = None
            case PhaseStarted():
                self.phase = event.phase
                self._parts_later = event.parts_later
                self.phase_number += 1
                self._steps_left = None
            case StepDone():
                self._steps_left = event.steps - event.step
                self._step_s = event.seconds
                self.report = event.memory
            case PhaseFinished():
                self.report = event.memory
            case _:
                pass

    @property
    def settled(self) -> bool:
        """Whether the present phase has shown what it uses: it repeats that in each step."""
        return self._steps_left is not None

    @property
    def under_plan(self) -> bool:
        """Whether the present phase has run by the plan in force from its beginning, or since."""
        return self.settled or self.phase_number > self._planned_in

    @property
    def look_s(self) -> float:
        """Until the engine next looks whether less is wanted: a step, or the rest of a phase."""
        if self.phase is Phase.DENOISE and self._step_s is not None:
            return self._step_s
        planned = self._planned(self.phase or Phase.LOAD)
        seconds = 0.0 if planned is None else planned.seconds
        if self.phase is Phase.DENOISE:
            seconds /= UNKNOWN_STEPS
        return min(seconds, MAX_GUESSED_LOOK_S)

    def remaining(self) -> tuple[Need, ...]:
        """The present phase and those to come, in order."""
        needs: list[Need] = []
        at_s = 0.0
        for phase in self._phases_left():
            planned = self._planned(phase)
            if planned is None:
                continue
            seconds = max(planned.seconds, planned.seconds_high)
            if phase is self.phase and self._steps_left is not None and self._step_s is not None:
                seconds = self._steps_left * self._step_s
            needs.append(
                Need(phase=phase, plan=planned, begins_in_s=at_s, ends_in_s=at_s + seconds)
            )
            at_s += seconds
        return tuple(needs)

    def reached(self) -> PhasePlan | None:
        """Of the phases begun, the one with the highest peak: torch keeps what it once had."""
        if self.phase is None:
            return None
        begun = [
            planned
            for phase in _ORDER[: _ORDER.index(self.phase) + 1]
            if (planned := self._planned(phase)) is not None
        ]
        return max(begun, key=lambda planned: planned.peak_vram_bytes, default=None)

    def _phases_left(self) -> tuple[Phase, ...]:
        if self.phase is None:
            return _ORDER
        left = _ORDER[_ORDER.index(self.phase) :]
        # A batch in parts denoises again after it has decoded.
        if self.phase in (Phase.DECODE, Phase.SAVE) and self._parts_later:
            again = (Phase.DENOISE, Phase.DECODE, Phase.SAVE)
            return (*left, *(phase for phase in again if phase not in left))
        return left

    def _planned(self, phase: Phase) -> PhasePlan | None:
        try:
            return self.plan.phase(phase)
        except KeyError:
            return None
