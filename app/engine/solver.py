"""What would fit: the most that can be asked for, one thing at a time, the rest as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.core.plan import GenerationPlan
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import (
    MAX_IMAGES,
    MAX_REFERENCES,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    GenerationRequest,
)
from app.engine.coefficients import ModelCoefficients
from app.engine.planner import can_make, plan_generation, plan_in_one_batch
from app.engine.planning.at_hand import AtHand
from app.engine.planning.order import last_in_order
from app.engine.planning.problem import PlanProblem, pose
from app.engine.planning.sizes import sizes_of_ratio

References = tuple[tuple[int, int], ...]
"""Width and height of each reference image, in pixels."""
REFERENCE_PX = 1024
"""Sides of the reference images that are counted; larger ones are made smaller than this area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The most that fits.

    Attributes:
        request: What could be asked for.
        references: How many reference images with it.
        plan: How it would be run; its phases say how much memory and time it takes.
    """

    request: GenerationRequest
    references: int
    plan: GenerationPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatFits:
    """Answers to "what would fit?"; None where nothing of the kind does.

    No answer has fewer images or a smaller size than its own request says.

    Attributes:
        size: The largest size of the same ratio.
        images: The most images, in parts where they do not fit at once.
        images_at_once: The most images without parts.
        references: The most reference images; their number may be 0.
    """

    size: Solution | None
    images: Solution | None
    images_at_once: Solution | None
    references: Solution | None


class Solver:
    """Looks for the most that fits with everything else as it is."""

    def __init__(
        self,
        request: GenerationRequest,
        device: DeviceProfile,
        host: HostProfile,
        policy: MemoryPolicy,
        coefficients: ModelCoefficients,
        limits: PresetLimits | None = None,
        *,
        references: References = (),
        at_hand: AtHand | None = None,
    ) -> None:
        """Take the arguments of `plan_generation`."""
        self._request = request
        self._references = references
        around = (device, host, replace(policy, strict=True), coefficients)

        def problem(request: GenerationRequest, references: References) -> PlanProblem:
            return pose(request, *around, limits=limits, references=references, at_hand=at_hand)

        def plan(request: GenerationRequest, references: References) -> GenerationPlan:
            return plan_generation(request, *around, limits, references=references, at_hand=at_hand)

        self._problem, self._plan = problem, plan

    def what_fits(self) -> WhatFits:
        """All answers."""
        return WhatFits(
            size=self.largest_size(),
            images=self.most_images(),
            images_at_once=self.most_images_at_once(),
            references=self.most_references(),
        )

    def largest_size(self) -> Solution | None:
        """The largest size of the request's ratio, in multiples of 16."""
        request = self._request
        sizes = sizes_of_ratio(
            request.width_px, request.height_px, from_px=MIN_SIZE_PX, to_px=MAX_SIZE_PX
        )
        requests = [replace(request, width_px=width, height_px=height) for width, height in sizes]
        return self._last(requests)

    def most_images(self) -> Solution | None:
        """The most images, in parts where they do not fit at once."""
        return self._last(self._counts())

    def most_images_at_once(self) -> Solution | None:
        """The most images that are denoised at once."""
        found = last_in_order(self._counts(), lambda request: self._at_once(request) is not None)
        plan = None if found is None else self._at_once(found)
        if found is None or plan is None:
            return None
        return Solution(request=found, references=len(self._references), plan=plan)

    def most_references(self) -> Solution | None:
        """The most reference images of about a megapixel."""
        rows = [((REFERENCE_PX, REFERENCE_PX),) * count for count in range(MAX_REFERENCES + 1)]
        found = last_in_order(rows, lambda row: self._can_make(self._request, row))
        return None if found is None else self._solution(self._request, found)

    def _counts(self) -> list[GenerationRequest]:
        return [replace(self._request, images=count) for count in range(1, MAX_IMAGES + 1)]

    def _last(self, requests: Sequence[GenerationRequest]) -> Solution | None:
        found = last_in_order(requests, lambda request: self._can_make(request, self._references))
        return None if found is None else self._solution(found, self._references)

    def _can_make(self, request: GenerationRequest, references: References) -> bool:
        problem = self._problem(request, references)
        return can_make(problem, request.width_px, request.height_px, request.images)

    def _at_once(self, request: GenerationRequest) -> GenerationPlan | None:
        return plan_in_one_batch(self._problem(request, self._references))

    def _solution(self, request: GenerationRequest, references: References) -> Solution:
        plan = self._plan(request, references)
        return Solution(request=request, references=len(references), plan=plan)
