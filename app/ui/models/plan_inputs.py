"""What a plan is made from, in one hand: the form, the machine and the choices about memory."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from app.core.device import Sample
from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.engine.coefficients import ModelCoefficients
from app.engine.planning.at_hand import AtHand

ROOMY_BYTES = 1 << 42
"""A device nothing has to give way on: what a request costs as it was asked for."""


class MakePlan(Protocol):
    """`app.engine.planner.plan_generation`."""

    def __call__(
        self,
        request: GenerationRequest,
        device: DeviceProfile,
        host: HostProfile,
        policy: MemoryPolicy,
        coefficients: ModelCoefficients,
        limits: PresetLimits | None = None,
        *,
        references: tuple[tuple[int, int], ...] = (),
        at_hand: AtHand | None = None,
    ) -> GenerationPlan: ...


ProfilesOf = Callable[[Sample], tuple[DeviceProfile, HostProfile]]
"""The machine as the planner wants it, from a sample of the monitor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """Everything a plan depends on.

    Attributes:
        request: What would be made now.
        device: The machine's GPU, or its CPU.
        host: The computer.
        policy: What a run may take and give up.
        limits: The most a request may ask for.
        coefficients: What the model needs.
        references: Width and height of each reference image of the request.
        at_hand: What earlier runs have left for it; None where nobody has looked.
    """

    request: GenerationRequest
    device: DeviceProfile
    host: HostProfile
    policy: MemoryPolicy
    limits: PresetLimits
    coefficients: ModelCoefficients
    references: tuple[tuple[int, int], ...] = ()
    at_hand: AtHand | None = None

    def plan(self, make: MakePlan) -> GenerationPlan:
        """The plan for these."""
        return make(
            self.request,
            self.device,
            self.host,
            self.policy,
            self.coefficients,
            self.limits,
            references=self.references,
            at_hand=self.at_hand,
        )

    def asking(self, **changes: Any) -> "PlanInputs":  # noqa: ANN401 - fields of the request
        """The same with another request."""
        return replace(self, request=replace(self.request, **changes))

    def with_references(self, *places: int) -> "PlanInputs":
        """The same with some of the reference images only."""
        paths = tuple(self.request.references[place] for place in places)
        sizes = tuple(self.references[place] for place in places)
        return replace(self.asking(references=paths), references=sizes)

    def under(self, **changes: Any) -> "PlanInputs":  # noqa: ANN401 - fields of the policy
        """The same with another policy."""
        return replace(self, policy=replace(self.policy, **changes))

    def alone(self) -> "PlanInputs":
        """The same where no other program held anything of the device."""
        return replace(self, device=replace(self.device, free_bytes=self.device.total_bytes))

    def with_room(self) -> "PlanInputs":
        """The same where nothing has to give way."""
        roomy = {"total_bytes": ROOMY_BYTES, "free_bytes": ROOMY_BYTES}
        host = replace(self.host, total_bytes=ROOMY_BYTES, available_bytes=ROOMY_BYTES)
        return replace(
            self,
            device=replace(self.device, **roomy),
            host=host,
            policy=replace(self.policy, limit_bytes=None),
            limits=PresetLimits(),
        )


def waits(inputs: PlanInputs, plan: GenerationPlan, make: MakePlan) -> bool:
    """Whether a run would wait for other programs: nothing else makes the plan refuse it."""
    if plan.verdict is not Verdict.DOES_NOT_FIT or inputs.device.kind == "cpu":
        return False
    return inputs.alone().plan(make).verdict is not Verdict.DOES_NOT_FIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a value costs against another one, if nothing has to give way; may be negative."""

    bytes: int
    seconds: float


def costs(
    inputs: PlanInputs, others: Iterable[PlanInputs | None], make: MakePlan
) -> tuple[Cost | None, ...]:
    """What `inputs` needs more than each of the others; None for what there is not."""
    # Planned once for all of them, and not at all for none: it is done at each keystroke.
    roomy = functools.cache(lambda: inputs.with_room().plan(make))

    def cost_of(other: PlanInputs) -> Cost:
        one, base = roomy(), other.with_room().plan(make)
        return Cost(
            bytes=one.peak_vram_bytes - base.peak_vram_bytes, seconds=one.seconds - base.seconds
        )

    return tuple(None if other is None else cost_of(other) for other in others)


def reference_costs(inputs: PlanInputs, make: MakePlan) -> tuple[Cost, ...]:
    """What each reference image costs against the same request without it."""
    count = len(inputs.references)
    found: dict[tuple[int, int], Cost] = {}
    for place, size in enumerate(inputs.references):
        if size not in found:
            others = (other for other in range(count) if other != place)
            (cost,) = costs(inputs, [inputs.with_references(*others)], make)
            if cost is not None:
                found[size] = cost
    return tuple(found[size] for size in inputs.references)
