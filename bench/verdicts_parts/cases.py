"""The grid: what is asked of which card, and the plans for it, each distinct one once."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.machine import described_device, described_host
from app.engine.planner import plan_generation
from app.engine.planning.problem import PlanProblem, pose

Size = tuple[int, int]
MODELS = ("klein-4b", "klein-9b", "klein-base-4b", "klein-base-9b", "dev")
CARDS_GB = (6, 8, 10, 12, 16, 24, 32)
PRECISIONS = (Precision.BF16, Precision.FP8, Precision.INT8, Precision.NF4, Precision.AUTO)
MODES = tuple(MemoryMode)
_ONE: tuple[Size, ...] = ((1024, 1024),)
_TWO: tuple[Size, ...] = ((1600, 900), (480, 656))
Wish = tuple[Size, int, tuple[Size, ...]]
WISHES: tuple[Wish, ...] = (
    *(((side, side), 1, ()) for side in (512, 1024, 1536, 2048)),
    ((816, 1104), 1, ()), ((1360, 768), 1, ()),
    ((512, 512), 2, ()), ((816, 1104), 2, ()), ((1024, 1024), 2, ()), ((2048, 2048), 2, ()),
    ((512, 512), 4, ()), ((1360, 768), 4, ()), ((1024, 1024), 4, ()), ((2048, 1152), 4, ()),
    ((816, 1104), 1, _ONE), ((1024, 1024), 1, _ONE), ((2048, 2048), 1, _ONE),
    ((1024, 1024), 4, _ONE),
    ((1360, 768), 1, _TWO), ((1536, 1536), 2, _TWO), ((1024, 1024), 1, _TWO),
)  # fmt: skip
"""Size, images, reference images: squares, other ratios, odd numbers of tokens."""
FEW_WISHES: tuple[Wish, ...] = (
    ((1024, 1024), 1, ()), ((816, 1104), 2, ()), ((2048, 2048), 1, ()), ((1024, 1024), 4, ()),
    ((1024, 1024), 1, _ONE),
)  # fmt: skip
"""In memory modes other than "auto"."""
PLENTY = HostProfile(total_bytes=1 << 50, available_bytes=1 << 50)
AUTO_RAM_GB = 32
"""Of the computer where the planner chooses the precision: it does so by what RAM holds."""
SHORT = (Verdict.SMALLER, Verdict.DOES_NOT_FIT)
"""Verdicts by which what was asked for is refused."""
GUIDANCE = 4.0
"""Base models then take two passes a step; distilled ones ignore it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is asked of a card.

    Attributes:
        model: By name.
        card_gb: Of the described card.
        precision: Of text encoder and transformer.
        mode: How eagerly weights stay.
        size: Width and height.
        images: How many.
        references: Width and height of each reference image.
        strict: Whether nothing smaller may be made.
        growing: Whether the segments of torch's allocator can grow on the card.
    """

    model: str
    card_gb: float
    precision: Precision
    size: Size
    mode: MemoryMode = MemoryMode.AUTO
    images: int = 1
    references: tuple[Size, ...] = ()
    strict: bool = False
    growing: bool = True

    @property
    def coefficients(self) -> ModelCoefficients:
        """Of the model.

        Raises:
            LookupError: No such model ships.
        """
        found = shipped_coefficients(self.model)
        if found is None:
            raise LookupError(self.model)
        return found

    @property
    def request(self) -> GenerationRequest:
        """What is asked."""
        width_px, height_px = self.size
        return GenerationRequest(
            prompt=".",
            model=self.model,
            width_px=width_px,
            height_px=height_px,
            steps=self.coefficients.default_steps,
            guidance=GUIDANCE,
            images=self.images,
        )

    @property
    def policy(self) -> MemoryPolicy:
        """How memory may be used."""
        return MemoryPolicy(
            mode=self.mode,
            strict=self.strict,
            precisions=Precisions(text_encoder=self.precision, transformer=self.precision),
        )

    def plan(self) -> GenerationPlan:
        """What the planner says."""
        return plan_generation(*self._asked, references=self.references)

    def problem(self) -> PlanProblem:
        """As the planner poses it."""
        return pose(*self._asked, references=self.references)

    @property
    def _asked(
        self,
    ) -> tuple[GenerationRequest, DeviceProfile, HostProfile, MemoryPolicy, ModelCoefficients]:
        return self.request, self.device, self.host, self.policy, self.coefficients

    @property
    def device(self) -> DeviceProfile:
        """The card, of which nothing is known but its memory and its allocator's segments."""
        return described_device(self.card_gb, growing=self.growing)

    @property
    def host(self) -> HostProfile:
        """The computer around the card."""
        return described_host(AUTO_RAM_GB) if self.precision is Precision.AUTO else PLENTY

    def words(self) -> str:
        """For tables and reports."""
        width_px, height_px = self.size
        parts = [self.model, f"{self.card_gb:g} GB", self.precision.value, self.mode.value]
        parts += [f"{self.images} x {width_px}x{height_px}"]
        if self.references:
            parts.append("references " + " ".join(f"{w}x{h}" for w, h in self.references))
        parts += ["strict"] * self.strict + ["segments"] * (not self.growing)
        return ", ".join(parts)


def grid(
    models: Sequence[str] = MODELS,
    cards_gb: Sequence[float] = CARDS_GB,
    precisions: Sequence[Precision] = PRECISIONS,
) -> Iterator[Case]:
    """All cases, smaller cards first."""
    for growing, model, precision, mode in itertools.product(
        (True, False), models, precisions, MODES
    ):
        wishes = WISHES if mode is MemoryMode.AUTO else FEW_WISHES
        for (size, images, references), card_gb in itertools.product(wishes, sorted(cards_gb)):
            yield Case(
                model=model,
                card_gb=card_gb,
                precision=precision,
                mode=mode,
                size=size,
                images=images,
                references=references,
                growing=growing,
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """A plan to carry out.

    Attributes:
        case: It was made for, on the smallest card that has this plan.
        plan: As the planner made it.
        cards_gb: For which the plan is the same.
    """

    case: Case
    plan: GenerationPlan
    cards_gb: tuple[float, ...]


def distinct(cases: Iterable[Case]) -> list[Planned]:
    """Plans that are carried out differently; a larger card that gives the same plan adds none.

    Args:
        cases: Smaller cards before larger ones.
    """
    found: dict[object, Planned] = {}
    for case in cases:
        plan = case.plan()
        key = _carried_out(case, plan)
        known = found.get(key)
        if known is None:
            found[key] = Planned(case=case, plan=plan, cards_gb=(case.card_gb,))
        elif case.card_gb not in known.cards_gb:
            found[key] = replace(known, cards_gb=(*known.cards_gb, case.card_gb))
    return list(found.values())


def _carried_out(case: Case, plan: GenerationPlan) -> object:
    refused = plan.verdict is Verdict.DOES_NOT_FIT
    return (
        plan.model, case.growing,
        # What is read from the disk is so for want of RAM, and takes the same of the device.
        tuple(replace(part, file_blocks=()) for part in plan.components),
        plan.width_px, plan.height_px, plan.images, plan.batch,
        plan.decode_batch, plan.tile_px, plan.decode_on_cpu, case.references,
        # A refusal is one of its card and of what was asked; so is a smaller picture.
        *((case.card_gb, case.size, case.images) if plan.verdict in SHORT else ()), refused,
    )  # fmt: skip
