"""Trying again with less: what fails for lack of memory is repeated after the next rung."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from app.core.events import REPEATED_CODE, Notice
from app.core.jobs import Job, Phase
from app.core.plan import GenerationPlan, PlanChange, Rung
from app.core.units import format_bytes
from app.engine.out_of_memory import (
    is_of_host,
    is_out_of_memory,
    memory_name,
    out_of_memory_error,
    ran_out_sentence,
)
from app.engine.recovery import (
    FIRST_CUT,
    Failure,
    changing_plan,
    keeping_plan,
    least_needed_bytes,
)
from app.engine.run.memory_wait import MemoryWait, Shortfall, waited_in_vain_sentence
from app.engine.run.model_shelf import ModelShelf
from app.engine.run.plan_in_force import PlanInForce
from app.engine.run.profiles import room_bytes

log = logging.getLogger(__name__)

_AFTER_ENCODING = (Phase.DENOISE, Phase.DECODE, Phase.SAVE)
MAX_REPEATS = 5
"""How often the same is tried without any change, once nothing is left that keeps the picture."""
Result = TypeVar("Result")


class PlanChangedError(Exception):
    """Another plan is in force: what runs is to be left and begun anew; an outcome, no failure."""


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    value: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class _RanOut:
    """What is left of an out-of-memory error: text, which holds no tensors."""

    name: str
    details: str
    of_host: bool


class Attempts:
    """Carries out the parts of one run under its plan, with recovery.

    Attributes:
        force: The plan; None before it is made, when only the repetition is left.
        wait: What the run may wait for other programs.
        step: Denoising steps that are done in the present part, for what is told.
        forecast_failed: Whether memory ran out though there was as much as the plan needs.
    """

    def __init__(
        self,
        job: Job,
        shelf: ModelShelf,
        *,
        wait: MemoryWait,
        send: Callable[[Any], None],
        holding_still: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Begin without a plan.

        Args:
            job: That is run.
            shelf: Holds the model.
            wait: What the run may wait.
            send: Takes events.
            holding_still: Around the time in which the run waits.
        """
        self.force: PlanInForce | None = None
        self.wait = wait
        self.step = 0
        self.forecast_failed = False
        self._job = job
        self._shelf = shelf
        self._send = send
        self._holding_still = holding_still
        self._waited_in_vain_s = 0.0
        self._tries = 0
        self._repeats = 0

    def begin_phase(self) -> None:
        """Another phase begins."""
        self.note_progress()
        self.wait.begin_phase()
        self._waited_in_vain_s = 0.0

    def note_progress(self) -> None:
        """Something was finished: a failure from here on is the first of its place."""
        self._tries = self._repeats = 0
        self.wait.note_progress()

    def run(
        self,
        phase: Phase,
        action: Callable[[], Result],
        *,
        rungs: bool = True,
        waits: bool = True,
    ) -> Result:
        """Do something until it succeeds, each time under a plan that needs less.

        Args:
            phase: It belongs to.
            action: May be called again after it failed at any point, and then looks at the plan
                again.
            rungs: Whether another plan can help; else what fails is only repeated.
            waits: Whether other programs are waited for; not where the CPU can do it.

        Raises:
            OutOfVramError: Nothing is left to try.
        """
        while True:
            outcome = self._try(action)
            if isinstance(outcome, _Done):
                return outcome.value
            # Here, not in a handler: a live exception keeps its frames, and they hold tensors.
            self._recover(phase, outcome, rungs=rungs, waits=waits and not outcome.of_host)

    def place(self) -> None:
        """Have the weights where the plan in force wants them."""
        force = self.force
        if force is None or force.placed:
            return
        self._shelf.place(force.plan)
        if force.gives_back:
            # What left the device is to be free for others, not kept by the allocator.
            self._shelf.device.release_cached()
        force.placed = True

    def _try(self, action: Callable[[], Result]) -> _Done[Result] | _RanOut:
        try:
            return _Done(action())
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            on_cpu = self._shelf.device.kind == "cpu"
            of_host = on_cpu or is_of_host(error)
            return _RanOut(name=memory_name(of_host=of_host), details=str(error), of_host=of_host)

    def _recover(self, phase: Phase, ran_out: _RanOut, *, rungs: bool, waits: bool) -> None:
        reason = ran_out_sentence(ran_out.name, phase)
        log.info("%s (%s)", reason, ran_out.details)
        self._shelf.evict()
        self._tries += 1
        force = self.force
        if force is not None:
            force.placed = False
            force.touched.add(phase)
        if force is None or not rungs:
            self._repeat(phase, ran_out, reason)
            return
        forgettable = ran_out.of_host and phase in _AFTER_ENCODING
        if forgettable and self.forget_text_encoder(force, phase, reason, foreseen=False):
            return
        room_bytes = self.room(force)
        if not ran_out.of_host and room_bytes >= force.plan.phase(phase).needed_bytes:
            self.forecast_failed = True
        failure = Failure(
            phase=phase,
            room_bytes=room_bytes,
            tries=self._tries,
            images_done=force.images.finished_first(),
        )
        plan = keeping_plan(force.problem, force.plan, failure)
        if waits and self._others_gave_back(force, failure, at_end=plan is None):
            plan = self._plan_after_wait(force, failure)
            if plan is not None:
                force.change(plan, phase=phase, step=self.step, reason=reason, foreseen=False)
            return
        if plan is None and self._repeats < MAX_REPEATS:
            self._repeat(phase, ran_out, reason)
            return
        plan = plan or changing_plan(force.problem, force.plan, failure)
        if plan is None:
            raise self._given_up(phase, ran_out)
        force.change(plan, phase=phase, step=self.step, reason=reason, foreseen=False)

    def _others_gave_back(self, force: PlanInForce, failure: Failure, *, at_end: bool) -> bool:
        """Hold still while less is free than any way needs that makes the pictures asked for.

        Args:
            force: The plan.
            failure: What happened.
            at_end: Whether all these ways were tried.

        Returns:
            Whether one of them finds room now.
        """
        phase, room_bytes = failure.phase, failure.room_bytes
        may_wait = self.wait.may_wait and self._repeats < MAX_REPEATS
        if not may_wait or room_bytes is None:
            return False
        least_bytes = least_needed_bytes(force.problem, force.plan, phase)
        total_bytes = force.problem.device.total_bytes
        if room_bytes >= least_bytes or least_bytes > total_bytes:
            return False
        # A forecast may be a little too high: then what seems to find no room is tried first.
        own_bytes = least_bytes - force.problem.device.calibration.context_bytes
        clear = least_bytes - room_bytes > FIRST_CUT * own_bytes
        if not clear and not (at_end and self._repeats):
            return False

        def look() -> Shortfall:
            room_bytes = self.room(force)
            return Shortfall(
                missing_bytes=least_bytes - room_bytes,
                others_bytes=max(0, total_bytes - room_bytes),
            )

        began_s = self.wait.waited_s
        with self._holding_still():
            enough = self.wait.wait(phase, look)
        if not enough:
            # What is tried all the same, because forecasts may be too high, is tried once.
            self._repeats = MAX_REPEATS - 1
            self._waited_in_vain_s = self.wait.waited_s - began_s
        return enough

    def _plan_after_wait(self, force: PlanInForce, failure: Failure) -> GenerationPlan | None:
        """The gentlest plan for what is free now; None for the one in force."""
        # Counted, so that a program that comes and goes is not waited for without end.
        self._repeats += 1
        self._tries = 0
        room_bytes = self.room(force)
        if room_bytes >= force.plan.phase(failure.phase).needed_bytes:
            return None
        now = replace(failure, room_bytes=room_bytes, tries=1)
        return keeping_plan(force.problem, force.plan, now)

    def forget_text_encoder(
        self, force: PlanInForce, phase: Phase, reason: str, *, foreseen: bool
    ) -> int:
        """Its RAM is the gentlest to give: this run needs it no more."""
        freed_bytes = self._shelf.forget_text_encoder()
        if freed_bytes:
            change = PlanChange(
                rung=Rung.STREAM,
                before="the text encoder in RAM for the next prompt",
                after=f"{format_bytes(freed_bytes)} given back; it is read again when needed",
                reason=reason,
            )
            force.take(change, phase=phase, step=self.step, foreseen=foreseen)
        return freed_bytes

    def _repeat(self, phase: Phase, ran_out: _RanOut, reason: str) -> None:
        if self._repeats >= MAX_REPEATS:
            raise self._given_up(phase, ran_out)
        self._repeats += 1
        message = f"{reason} What failed is tried again with what is free now."
        self._send(Notice(job_id=self._job.id, code=REPEATED_CODE, message=message))

    def _given_up(self, phase: Phase, ran_out: _RanOut) -> Exception:
        force, missing = self.force, ()
        if force is not None and (force.problem.on_cpu or not ran_out.of_host):
            missing = force.refusal(self.room(force))
        if missing and self._waited_in_vain_s:
            missing = (*missing, waited_in_vain_sentence(self._waited_in_vain_s))
        return out_of_memory_error(
            ran_out.name,
            phase,
            details=ran_out.details,
            strict=self._job.policy.strict,
            missing=missing,
        )

    def room(self, force: PlanInForce) -> int:
        """What the run can have of the device now, with all that it holds."""
        return room_bytes(self._shelf.device, force.problem.device.calibration)
