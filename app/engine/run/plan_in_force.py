"""The plan of a run, and how it changes while it is carried out."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.core.errors import DOES_NOT_FIT_CODE, OutOfVramError
from app.core.events import Downshifted, ImagesDeferred, PlanMade
from app.core.jobs import Job, Phase
from app.core.plan import GenerationPlan, PhasePlan, PlanChange, Rung, Verdict
from app.core.profile import DeviceProfile, HostProfile
from app.core.run_report import TakenRung
from app.engine.coefficients import ModelCoefficients
from app.engine.planner import plan_generation
from app.engine.planning.problem import PlanProblem, pose
from app.engine.run.images import RunImages
from app.engine.shift_words import changes_between

log = logging.getLogger(__name__)


class PlanInForce:
    """What is carried out now.

    Attributes:
        problem: The plan was made for.
        plan: In force.
        images: Of the run.
        rungs: Taken since the run began, in order.
        touched: Phases in which a rung was taken, so that they did not run as planned.
        ran_by: What was planned for each phase when it ran last.
        placed: Whether the weights are where the plan wants them.
        gives_back: Whether weights may leave the device for the sake of others.
    """

    def __init__(
        self, job: Job, problem: PlanProblem, plan: GenerationPlan, send: Callable[[Any], None]
    ) -> None:
        """Take a plan and tell of it.

        Raises:
            OutOfVramError: The plan says that the request does not fit.
        """
        self.problem = problem
        self.plan = plan
        self.rungs: list[TakenRung] = []
        self.touched: set[Phase] = set()
        self.ran_by: dict[Phase, PhasePlan] = {}
        self.placed = False
        self.gives_back = False
        self._job = job
        self._send = send
        send(PlanMade(job_id=job.id, plan=plan))
        if plan.verdict is Verdict.DOES_NOT_FIT:
            raise OutOfVramError(" ".join(plan.reasons), code=DOES_NOT_FIT_CODE)
        self.images = RunImages(plan.images, saved=job.saved)
        if plan.images_later:
            reason = next(
                (one.reason for one in plan.changes if one.rung is Rung.FEWER), plan.reasons[0]
            )
            self._defer(plan.images_later, reason)

    def change(
        self, plan: GenerationPlan, *, phase: Phase, step: int, reason: str, foreseen: bool
    ) -> None:
        """Put another plan in force and tell of each rung between the two."""
        before = self.plan
        changes = changes_between(before, plan, reason)
        # What computes attention was found out for this run, and stays.
        self.plan = replace(plan, changes=(*before.changes, *changes), attention=before.attention)
        self.placed = False
        self.touched.add(phase)
        for change in changes:
            self.take(change, phase=phase, step=step, foreseen=foreseen)
        self.tell()
        if plan.images < before.images:
            self.images.drop_from(plan.images)
            self._defer(before.images - plan.images, reason)
        if (plan.width_px, plan.height_px) != (before.width_px, before.height_px):
            self.images.restart()

    def refit(self, problem: PlanProblem, plan: GenerationPlan, *, phase: Phase) -> None:
        """Put a plan in force that has weights elsewhere; to be told when they are there.

        Args:
            problem: It belongs to.
            plan: Of the same pictures, made in the same parts.
            phase: In which.
        """
        if plan.components != self.plan.components:
            self.placed = False
            self.gives_back = True
            self.touched.add(phase)
        self.problem, self.plan = problem, plan

    def tell(self) -> None:
        """Tell of the plan in force."""
        self._send(PlanMade(job_id=self._job.id, plan=self.plan))

    def take(self, change: PlanChange, *, phase: Phase, step: int, foreseen: bool) -> None:
        """Note a rung and tell of it."""
        log.info("%s: %s instead of %s", change.reason, change.after, change.before)
        self.gives_back = True
        taken = TakenRung(
            phase=phase,
            step=step,
            rung=change.rung,
            before=change.before,
            after=change.after,
            reason=change.reason,
            foreseen=foreseen,
        )
        self.rungs.append(taken)
        self._send(
            Downshifted(
                job_id=self._job.id,
                phase=phase,
                step=step,
                rung=change.rung,
                before=change.before,
                after=change.after,
                reason=change.reason,
                foreseen=foreseen,
            )
        )

    def refusal(self, room_bytes: int) -> tuple[str, ...]:
        """What is missing when the device has this much for the request; empty when nothing is.

        Args:
            room_bytes: That a run of ours can have now.
        """
        problem = self.problem
        plan = plan_generation(
            problem.request,
            replace(problem.device, free_bytes=room_bytes),
            problem.host,
            problem.policy,
            problem.coefficients,
            problem.limits,
            references=problem.references,
            loaded=problem.loaded,
        )
        return plan.reasons if plan.verdict is Verdict.DOES_NOT_FIT else ()

    def note_ran(self, phase: Phase) -> None:
        """A phase ended, and ran to its end by the plan in force."""
        self.ran_by[phase] = self.plan.phase(phase)

    def _defer(self, images: int, reason: str) -> None:
        self._send(
            ImagesDeferred(
                job_id=self._job.id, first_index=self.plan.images, images=images, reason=reason
            )
        )


def planned(
    job: Job,
    device: DeviceProfile,
    host: HostProfile,
    coefficients: ModelCoefficients,
    *,
    references: tuple[tuple[int, int], ...] = (),
    loaded: bool,
) -> tuple[PlanProblem, GenerationPlan]:
    """The problem that a job is on a machine as it is now, and the planner's answer.

    Args:
        job: To plan.
        device: With what is free on it now.
        host: The computer around it.
        coefficients: Of the job's model.
        references: Width and height of each reference image.
        loaded: Whether the model is in RAM already.
    """
    problem = pose(
        job.request,
        device,
        host,
        job.policy,
        coefficients,
        limits=job.limits,
        references=references,
        loaded=loaded,
    )
    plan = plan_generation(
        job.request,
        device,
        host,
        job.policy,
        coefficients,
        job.limits,
        references=references,
        loaded=loaded,
    )
    return problem, plan
