"""The plan a run begins with: where only others' memory is in its way, it is waited for first."""

from dataclasses import replace
from typing import Protocol

from app.core.jobs import Job, Phase
from app.core.plan import GenerationPlan, Verdict
from app.core.policy import Budget
from app.engine.planning.problem import PlanProblem
from app.engine.run.context import RunContext
from app.engine.run.memory_wait import MemoryWait, Shortfall, waited_in_vain_sentence

Planned = tuple[PlanProblem, GenerationPlan]


class Planner(Protocol):
    """Plans a job on the machine as it is now."""

    def __call__(self, job: Job, *, alone: bool = False) -> Planned:
        """The problem and its plan.

        Args:
            job: To plan.
            alone: Whether to plan as if no other program held anything of the device.
        """
        ...


def plan_once_it_fits(context: RunContext, wait: MemoryWait, job: Job, planner: Planner) -> Planned:
    """The plan of a job; one that is refused because of other programs is made again later.

    What is waited for is enough for the pictures that are asked for, if the device has it: those
    who wait want no smaller ones.

    Args:
        context: Of the run.
        wait: What the run may wait.
        job: To plan.
        planner: Plans it.

    Raises:
        CancelRequestedError: The job is to stop.
    """
    problem, plan = planner(job)
    if not _refused(plan) or not wait.may_wait:
        return problem, plan
    wanted = _wanted(job, planner)
    if wanted is None:
        return problem, plan
    # What is on the device of runs before is in nobody's way meanwhile.
    context.shelf.evict()
    budget = Budget.of(job.policy)

    def look() -> Shortfall:
        nonlocal budget
        budget = context.relief.take_budget() or budget
        problem, plan = planner(_under(budget, wanted))
        device = problem.device
        return Shortfall(
            # Where RAM is short as well, nothing of the device may be missing.
            missing_bytes=max(1, plan.missing_bytes) if _refused(plan) else 0,
            others_bytes=max(0, device.total_bytes - device.free_bytes),
        )

    began_s = wait.waited_s
    wait.wait(Phase.LOAD, look)
    problem, plan = planner(_under(budget, job))
    if _refused(plan):
        waited = waited_in_vain_sentence(wait.waited_s - began_s)
        plan = replace(plan, reasons=(*plan.reasons, waited))
    return problem, plan


def _wanted(job: Job, planner: Planner) -> Job | None:
    """What the device could do alone: all that is asked for, else less; None for nothing."""
    whole = replace(job, policy=replace(job.policy, strict=True))
    for one in (whole, job):
        if not _refused(planner(one, alone=True)[1]):
            return one
    return None


def _under(budget: Budget, job: Job) -> Job:
    return replace(job, policy=budget.applied_to(job.policy))


def _refused(plan: GenerationPlan) -> bool:
    return plan.verdict is Verdict.DOES_NOT_FIT
