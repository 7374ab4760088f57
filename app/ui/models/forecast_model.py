"""The plan over time: ahead of now before a run, under the live curve during one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, Signal, Slot

from app.core.device import Sample
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
)
from app.core.jobs import Phase
from app.core.plan import GenerationPlan, PhasePlan
from app.ui.models.forecast_frame import (
    Forecast,
    ForecastBox,
    box_of,
    boxes_of,
    lifted,
    plan_fits,
)
from app.ui.models.memory_frame import Lane, MemoryView

STRETCH = 1.25
"""A phase that takes longer than planned is given this much more, again and again: in leaps, so
that the picture is not painted anew ten times a second."""
SHORTEST_S = 0.5


@dataclass(slots=True, kw_only=True)
class _Run:
    """The run that goes on or ended last.

    Attributes:
        job_id: Its job's.
        plan: The engine's own; None until it has told.
        past: Boxes of what was done, with the ends they really had.
        now: The box of the phase that goes on.
        later: The phases that follow.
        phase: That goes on; None before the first.
        phase_began_s: When it began.
        done_s: Seconds each phase has taken so far, for phases that come several times.
    """

    job_id: str
    plan: GenerationPlan | None = None
    past: tuple[ForecastBox, ...] = ()
    now: ForecastBox | None = None
    later: tuple[PhasePlan, ...] = ()
    phase: Phase | None = None
    phase_began_s: float = 0.0
    done_s: dict[Phase, float]
    ended: bool = False


class ForecastModel(QObject):
    """Turns plans and the engine's events into boxes; lives in the GUI thread.

    Signals:
        changed(): There are other boxes than before.
    """

    changed = Signal()

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, parent: QObject | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            clock: The one the monitor's samples are timed with.
            parent: Owner.
        """
        super().__init__(parent)
        self._clock = clock
        self._planned: GenerationPlan | None = None
        self._planned_lane = Lane.DEVICE
        self._idle_bytes = 0
        self._is_idle_known = True
        self._run: _Run | None = None
        self._run_lane = Lane.DEVICE

    def set_planned(self, plan: GenerationPlan | None, *, lane: Lane) -> None:
        """Take the plan of what would be made now; None when there is none."""
        if plan != self._planned or lane is not self._planned_lane:
            self._planned, self._planned_lane = plan, lane
            self.changed.emit()

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample: the first of a ready engine tells what it holds before any model.

        On the CPU the curve is of the whole process, and the plan of what a model adds to it.
        """
        held_bytes = sample.host.engine_rss_bytes
        if not self._is_idle_known and held_bytes is not None:
            self._is_idle_known = True
            self._idle_bytes = held_bytes
            self.changed.emit()

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent; those that say nothing about plans or phases are ignored."""
        match event:
            case PlanMade():
                self._on_plan_made(event)
            case PhaseStarted():
                self._on_phase_started(event)
            case PhaseFinished():
                self._on_phase_finished(event)
            case JobFinished() | JobCancelled() | JobFailed():
                self._on_job_ended(event.job_id)
            case EngineReady():
                self._run_lane = Lane.HOST if event.device == "cpu" else Lane.DEVICE
                self._is_idle_known = False
            case EngineStateChanged():
                self._on_engine_state(event)
            case _:
                pass

    def forecast(self, view: MemoryView) -> Forecast | None:
        """What is drawn now; None while there is neither a plan nor a run that had one."""
        run = self._run
        running = run is not None and not run.ended
        if run is not None and running:
            self._stretch(run)
        behind = () if run is None else self._behind(run)
        if view is MemoryView.RUN:
            plan = None if run is None else run.plan
            return None if plan is None else self._made(plan, self._run_lane, behind)
        if run is not None and running:
            if run.plan is None:
                return None
            now_s = self._clock()
            ahead = tuple(
                replace(box, start_s=max(0.0, box.start_s - now_s), end_s=box.end_s - now_s)
                for box in behind
                if box.end_s > now_s
            )
            return self._made(run.plan, self._run_lane, behind, ahead)
        if self._planned is None:
            return None
        ahead = boxes_of(self._planned.phases, budget_bytes=self._planned.budget_bytes)
        shown = behind if self._run_lane is self._planned_lane else ()
        return self._made(self._planned, self._planned_lane, shown, ahead)

    # Inside.

    def _made(
        self,
        plan: GenerationPlan,
        lane: Lane,
        behind: tuple[ForecastBox, ...],
        ahead: tuple[ForecastBox, ...] = (),
    ) -> Forecast:
        idle_bytes = self._idle_bytes if lane is Lane.HOST else 0
        return Forecast(
            lane=lane,
            behind=lifted(behind, idle_bytes),
            ahead=lifted(ahead, idle_bytes),
            ahead_s=max(plan.seconds, ahead[-1].end_s if ahead else 0.0),
            # The plan may use this much on top of what the process holds anyway.
            budget_bytes=plan.budget_bytes + idle_bytes if plan.budget_bytes > 0 else 0,
            fits=plan_fits(plan),
        )

    @staticmethod
    def _behind(run: _Run) -> tuple[ForecastBox, ...]:
        if run.now is None:
            return run.past
        budget_bytes = 0 if run.plan is None else run.plan.budget_bytes
        later = boxes_of(run.later, budget_bytes=budget_bytes, start_s=run.now.end_s)
        return (*run.past, run.now, *later)

    def _stretch(self, run: _Run) -> None:
        box, now_s = run.now, self._clock()
        if box is None:
            return
        while box.end_s < now_s:
            taken_s = max(SHORTEST_S, box.end_s - box.start_s)
            box = replace(box, end_s=box.start_s + taken_s * STRETCH)
        run.now = box

    def _run_of(self, job_id: str) -> _Run:
        run = self._run
        if run is None or run.ended or run.job_id != job_id:
            run = self._run = _Run(job_id=job_id, done_s={})
        return run

    def _on_plan_made(self, event: PlanMade) -> None:
        run = self._run_of(event.job_id)
        # What was expected so far stays as it was; from here on the new plan holds.
        begins_s = run.phase_began_s if run.plan is None else self._clock()
        self._close(run)
        run.plan = event.plan
        if run.phase is not None:
            self._open(run, run.phase, begins_s)
        self.changed.emit()

    def _on_phase_started(self, event: PhaseStarted) -> None:
        run = self._run_of(event.job_id)
        self._close(run)
        run.phase, run.phase_began_s = event.phase, self._clock()
        self._open(run, event.phase, run.phase_began_s)
        self.changed.emit()

    def _on_phase_finished(self, event: PhaseFinished) -> None:
        run = self._run
        if run is not None and run.job_id == event.job_id:
            # Else the time until the next phase begins would count as this one's.
            run.done_s[event.phase] = run.done_s.get(event.phase, 0.0) + event.seconds

    def _on_job_ended(self, job_id: str) -> None:
        run = self._run
        if run is None or run.job_id != job_id or run.ended:
            return
        self._close(run)
        run.later = ()
        run.ended = True
        self.changed.emit()

    def _on_engine_state(self, event: EngineStateChanged) -> None:
        run = self._run
        if event.state is EngineState.RESTARTING and run is not None and not run.ended:
            # It begins again: what is to come is told with the next phase.
            self._close(run)
            run.later = ()
            run.phase = None
            run.done_s.clear()
            self.changed.emit()

    def _close(self, run: _Run) -> None:
        """The phase that goes on ends now."""
        if run.now is not None:
            run.past = (*run.past, replace(run.now, end_s=max(run.now.start_s, self._clock())))
            run.now = None

    @staticmethod
    def _open(run: _Run, phase: Phase, begins_s: float) -> None:
        """A phase begins, and with it what follows is expected anew."""
        if run.plan is None:
            return
        names = [one.phase for one in run.plan.phases]
        if phase not in names:
            run.later = ()
            return
        place = names.index(phase)
        plan = run.plan.phases[place]
        left_s = max(0.0, plan.seconds - run.done_s.get(phase, 0.0))
        box = box_of(plan, budget_bytes=run.plan.budget_bytes, start_s=begins_s)
        run.now = replace(box, end_s=begins_s + left_s)
        run.later = run.plan.phases[place + 1 :]
