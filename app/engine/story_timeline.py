"""How far a run on a simulated device has come, and what its story has happen by then."""

from app.core.jobs import Phase
from app.engine.simulated_story import Failure, Moment, OtherUse, Story


class Timeline:
    """The virtual clock, the run's progress, and the events that are due.

    Attributes:
        seconds: On the virtual clock.
        operations: That were begun, all in all.
    """

    def __init__(self, story: Story) -> None:
        """Begin the story."""
        self.seconds = 0.0
        self.operations = 0
        self._phase: Phase | None = None
        self._step = 0
        self._operation = 0
        self._uses_to_come = list(story.others)
        self._use: OtherUse | None = None
        self._use_since_s = 0.0
        self._failures_to_come = list(story.failures)
        self._failing: list[tuple[Failure, int]] = []

    def enter(self, phase: Phase, step: int) -> None:
        """A phase begins, or is begun anew."""
        self._phase = phase
        self._step = step
        self._operation = 0

    def note_step(self, step: int) -> None:
        """So many denoising steps are done."""
        self._step = step
        self._operation = 0

    def begin_operation(self) -> Failure | None:
        """One more operation begins; the failure it meets, or None."""
        now = self._now()
        self._operation += 1
        self.operations += 1
        for failure in tuple(self._failures_to_come):
            if failure.at.reached(now):
                self._failures_to_come.remove(failure)
                self._failing.append((failure, failure.times))
        if not self._failing:
            return None
        failure, left = self._failing.pop(0)
        if left > 1:
            self._failing.insert(0, (failure, left - 1))
        return failure

    def others_bytes(self) -> int:
        """Held by other programs now."""
        now = self._now()
        for use in tuple(self._uses_to_come):
            if use.at.reached(now):
                self._uses_to_come.remove(use)
                self._use = use
                self._use_since_s = self.seconds
        if self._use is None:
            return 0
        growth = self._use.bytes_per_s * (self.seconds - self._use_since_s)
        return self._use.bytes + int(growth)

    def _now(self) -> Moment:
        return Moment(
            phase=self._phase, step=self._step, operation=self._operation, time_s=self.seconds
        )
