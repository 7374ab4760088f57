"""Memory that changes while a run goes on: less or more for weights, from the next block on.

Less comes from a prediction, from the user or from the look before each part; more from the user,
from others' memory that came back, or from that look. What it changes of weights is done between
two blocks. The rest of a predicted relief, which begins the part anew, is done at a step or phase.
"""

import logging
from collections.abc import Callable
from typing import Any

from app.core.events import Notice
from app.core.jobs import Job, Phase
from app.core.plan import GenerationPlan
from app.core.policy import Budget
from app.core.units import MIB, format_bytes
from app.engine.out_of_memory import is_out_of_memory
from app.engine.planning.problem import PlanProblem
from app.engine.recovery import relieved_plan
from app.engine.refit import described, lightest, needed_bytes, refitted, with_budget
from app.engine.relief import Relief, ReliefRequests
from app.engine.run.attempts import Attempts
from app.engine.run.budget_words import refit_message, weights_words, wish_words
from app.engine.run.model_shelf import ModelShelf, nothing
from app.engine.run.plan_in_force import PlanInForce

log = logging.getLogger(__name__)

BUDGET_CODE = "memory.budget"
AFTER_ENCODING = (Phase.DENOISE, Phase.DECODE, Phase.SAVE)
FELL_FURTHER_BYTES = 64 * MIB
FELL_FURTHER_SHARE = 1 / 200
"""Memory that others took since the last downshift, for a second one in the same phase."""
CHANGED_BYTES = 256 * MIB
CHANGED_SHARE = 1 / 50
"""What has to be free more, or less, than when the plan was made for a part to be placed anew."""


class LiveMemory:
    """Carries out what is asked about one run's memory while it goes on."""

    def __init__(
        self,
        job: Job,
        shelf: ModelShelf,
        attempts: Attempts,
        *,
        send: Callable[[Any], None],
        requests: ReliefRequests,
    ) -> None:
        """Begin before the first phase.

        Args:
            job: That is run.
            shelf: Holds the model; tells of each block from now on.
            attempts: Hold the plan.
            send: Takes events.
            requests: What is asked of the run.
        """
        self._job = job
        self._shelf = shelf
        self._attempts = attempts
        self._send = send
        self._requests = requests
        self._left: tuple[Phase, ...] = ()
        self._phase_number = 0
        self._raised = False
        self._fitted_room_bytes: int | None = None
        self._room_when_relieved: dict[int, int] = {}
        self._before_relief: GenerationPlan | None = None
        self._in_vain: Relief | None = None
        shelf.between_blocks = self.between_blocks

    def begin_phase(self, left: tuple[Phase, ...], *, afresh: bool = False) -> None:
        """A phase begins that computes.

        Args:
            left: It and those to come, in order.
            afresh: Whether to look how much memory there is.
        """
        self._left = left
        self._phase_number += 1
        self._raised = False
        if afresh:
            self._look_afresh()
        self.look_at_budget()
        self.look()

    def look(self) -> bool:
        """See at a step or phase boundary whether less memory is wanted, and take rungs for it.

        Returns:
            Whether another plan is in force now, for which what runs is to be begun anew.
        """
        asked = self._requests.take()
        force = self._attempts.force
        base, self._before_relief = self._before_relief, None
        if asked is None or force is None:
            return False
        wanted_bytes = asked.device_bytes
        freed_bytes = 0
        if asked.host_bytes and self._left[0] in AFTER_ENCODING:
            freed_bytes = self._attempts.forget_text_encoder(
                force, self._left[0], asked.reason, foreseen=True
            )
        if force.problem.on_cpu:
            wanted_bytes = max(wanted_bytes, asked.host_bytes) - freed_bytes
        if wanted_bytes <= 0 or not (base is not None or self._may_relieve(force)):
            return False
        plan = relieved_plan(force.problem, base or force.plan, self._left, wanted_bytes)
        if plan is None:
            log.info("nothing more gives way without changing the picture: %s", asked.reason)
            return False
        self._take_relief(force, plan, asked)
        return True

    def look_at_budget(self) -> None:
        """See between two images or phases whether the budget is another one."""
        self._look_at_budget(place=False)

    def between_blocks(self) -> None:
        """See whether weights are to leave or to come, and have them do so.

        Raises:
            torch.OutOfMemoryError: The device has no room for what is to stay on it now.
        """
        if self._requests.pending and self._left:
            self._look_at_budget(place=True)
            self._relieve_weights()

    def end(self) -> None:
        """All is computed; what stays on the device for the next run keeps to the budget."""
        self._left = ()
        budget, force = self._requests.take_budget(), self._attempts.force
        if budget is None or force is None or force.problem.on_cpu:
            return
        problem = with_budget(force.problem, budget, self._attempts.room(force))
        plan = refitted(problem, force.plan, ())
        if plan.components != force.plan.components:
            log.info("weights for the next run leave the device: its budget is less now")
            self._shelf.place(plan, cancellable=False)
            self._shelf.device.release_cached()

    def close(self) -> None:
        """Hear of no block any more: the shelf outlives the run."""
        self._shelf.between_blocks = nothing

    # More or less for weights.

    def _look_at_budget(self, *, place: bool) -> None:
        force = self._attempts.force
        if force is None:
            return
        budget, offer = self._requests.take_budget(), self._requests.take_offer()
        if force.problem.on_cpu:
            return  # What there is to give way is never only weights.
        if budget is not None:
            problem = with_budget(force.problem, budget, self._attempts.room(force))
            reason = wish_words(force.problem.policy, problem.policy)
            if reason:
                self._refit(force, problem, reason, place=place, by_user=True)
        elif offer is not None and not (self._raised or self._attempts.forecast_failed):
            problem = self._afresh(force)
            if self._more_free_bytes(force, problem) >= _least_change_bytes(problem):
                self._raised = self._refit(force, problem, offer, place=place, only_more=True)

    def _look_afresh(self) -> None:
        """Before a part: memory may have gone or come back since the plan was made."""
        force = self._attempts.force
        if force is None or force.problem.on_cpu:
            return
        problem = self._afresh(force)
        change_bytes = self._more_free_bytes(force, problem)
        if abs(change_bytes) >= _least_change_bytes(problem):
            word = "more" if change_bytes > 0 else "less"
            reason = f"{format_bytes(abs(change_bytes))} {word} of the GPU are free than before"
            self._refit(force, problem, reason, place=False)

    def _afresh(self, force: PlanInForce) -> PlanProblem:
        budget = Budget.of(force.problem.policy)
        return with_budget(force.problem, budget, self._attempts.room(force))

    def _more_free_bytes(self, force: PlanInForce, problem: PlanProblem) -> int:
        """What the device has more for the run than the plan in force was made for."""
        fitted_bytes = self._fitted_room_bytes
        if fitted_bytes is None:
            fitted_bytes = force.problem.device.free_bytes
        return problem.device.free_bytes - fitted_bytes

    def _refit(
        self,
        force: PlanInForce,
        problem: PlanProblem,
        reason: str,
        *,
        place: bool,
        by_user: bool = False,
        only_more: bool = False,
    ) -> bool:
        """Place weights for a budget and say so once.

        Args:
            force: The plan.
            problem: With the budget.
            reason: Why, in a sentence.
            place: Whether to have the weights there at once.
            by_user: Whether it is to be done and told although no weights move.
            only_more: Whether it is to be done only where more weights are there then.

        Returns:
            Whether more weights are there now.
        """
        before, left = force.plan, self._left
        plan = refitted(problem, before, left)
        more = needed_bytes(plan, left) > needed_bytes(before, left)
        may_grow = not (more and self._attempts.forecast_failed)
        moves = plan.components != before.components and may_grow
        if (only_more and not more) or not (by_user or moves):
            return False
        if not may_grow:
            plan = described(problem, before)
        force.refit(problem, plan, phase=left[0])
        had_room = True
        if place and not force.placed and not self._place():
            had_room = False
            force.refit(problem, described(problem, before), phase=left[0])
            self._attempts.place()
        self._fitted_room_bytes = problem.device.free_bytes
        if more:
            # What was freed once may be needed again.
            self._room_when_relieved.pop(self._phase_number, None)
        weights = weights_words(problem, before, force.plan)
        over_bytes = needed_bytes(force.plan, left) - problem.budget_bytes
        message = refit_message(
            reason.rstrip("."), weights, over_bytes=over_bytes, had_room=had_room, may_grow=may_grow
        )
        log.info("%s", message)
        if weights or over_bytes > 0 or not (had_room and may_grow):
            self._send(Notice(job_id=self._job.id, code=BUDGET_CODE, message=message))
        force.tell()
        return more and bool(weights)

    def _place(self) -> bool:
        """Whether there was room."""
        try:
            self._attempts.place()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.info("no room for the weights of another budget: %s", error)
            return False
        return True

    # Less because memory will run out.

    def _relieve_weights(self) -> None:
        """Of a relief, what is done without beginning the part anew."""
        asked, force = self._requests.asked(), self._attempts.force
        if asked is None or asked.device_bytes <= 0 or force is None or asked is self._in_vain:
            return
        if self._before_relief is not None or not self._may_relieve(force):
            return
        plan = relieved_plan(force.problem, force.plan, self._left, asked.device_bytes)
        if plan is not None and self._goes_on(force.plan, plan):
            self._requests.take_device_part()
        else:
            # The rest waits for the step's end, and begins from here.
            before, plan = force.plan, lightest(force.problem, force.plan, self._left)
            if needed_bytes(plan, self._left[:1]) >= needed_bytes(before, self._left[:1]):
                self._in_vain = asked
                return
            self._before_relief = before
        self._take_relief(force, plan, asked)
        self._attempts.place()

    def _goes_on(self, before: GenerationPlan, plan: GenerationPlan) -> bool:
        """Whether what runs now can go on under another plan."""
        return plan.batch == before.batch or self._left[0] is not Phase.DENOISE

    def _may_relieve(self, force: PlanInForce) -> bool:
        """Once in a phase, and again when there is clearly less than at that time."""
        before_bytes = self._room_when_relieved.get(self._phase_number)
        if before_bytes is None:
            return True
        fell_bytes = before_bytes - self._attempts.room(force)
        total_bytes = force.problem.device.total_bytes
        # Devices of tests are small: a share of them, where that is less.
        return fell_bytes >= min(FELL_FURTHER_BYTES, int(total_bytes * FELL_FURTHER_SHARE))

    def _take_relief(self, force: PlanInForce, plan: GenerationPlan, asked: Relief) -> None:
        room_bytes = self._attempts.room(force)
        self._room_when_relieved[self._phase_number] = room_bytes
        # A prediction comes before others have taken all of it.
        self._fitted_room_bytes = max(0, room_bytes - asked.device_bytes)
        step = self._attempts.step
        force.change(plan, phase=self._left[0], step=step, reason=asked.reason, foreseen=True)


def _least_change_bytes(problem: PlanProblem) -> int:
    return min(CHANGED_BYTES, int(problem.device.total_bytes * CHANGED_SHARE))
