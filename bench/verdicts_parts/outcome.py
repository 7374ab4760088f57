"""What became of a plan that was carried out: peaks by phase, and where memory ran out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from app.core.jobs import Phase
from app.core.plan import GenerationPlan
from app.engine.simulated_story import Story
from bench.verdicts_parts.card import Card, PhasePeak, RanOut
from bench.verdicts_parts.cases import Case
from bench.verdicts_parts.device import Memory, RealSizeDevice
from bench.verdicts_parts.execution import Execution
from bench.verdicts_parts.model import model_for
from bench.verdicts_parts.truth import MORE, NAMES, USUAL, truths_of

ENDLESS_BYTES = 1 << 50
_TFLOPS = 60.0
_COPY_BYTES_PER_S = 2e10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one plan.

    Attributes:
        ran_out: By the truth's name, where and when memory did on the card.
        short: The same of a card that has just what the plan says it needs, doubt included, if
            that doubt comes true: "10 % more".
        peaks: By the truth's name, what the fullest moment took of the card.
        phases: Of each phase by itself, on the usual card with an empty allocator at its begin.
    """

    ran_out: dict[str, RanOut]
    short: dict[str, RanOut]
    peaks: dict[str, int]
    phases: dict[Phase, PhasePeak]


@lru_cache(maxsize=1)
def memory() -> Memory:
    """Of this process."""
    return Memory()


def carry_out(
    case: Case,
    plan: GenerationPlan,
    *,
    names: Sequence[str] = NAMES,
    forced: bool = False,
    native: bool = False,
) -> Outcome:
    """Carry a plan out on the card that it was made for.

    Args:
        case: It was made for.
        plan: To carry out.
        names: Of truths about the card; when memory runs out on the first, the run ends.
        forced: Whether it is carried out to its end all the same, as if there were more.
        native: Whether quantized layers are multiplied by the GPU's units for 8 bits.
    """
    truths = truths_of(growing=case.growing)
    fresh = Card(truths[USUAL], ENDLESS_BYTES, fresh=True)
    cards = [Card(truths[name], plan.budget_bytes) for name in names]
    just = [Card(truths[MORE], plan.needed_bytes)]
    first = [fresh] if forced else []
    story = Story(
        capacity_bytes=plan.total_bytes, tflops=_TFLOPS, copy_bytes_per_s=_COPY_BYTES_PER_S
    )
    device = RealSizeDevice(story, dict.fromkeys([*first, *cards, *just, fresh]), memory())
    execution = Execution(
        plan=plan, request=case.request, references=case.references, native=native
    )
    try:
        execution.run(model_for(plan), device)
    except torch.OutOfMemoryError:
        if cards[0].ran_out is None:
            raise
    return Outcome(
        ran_out=_ran_out(cards),
        short=_ran_out(just),
        peaks={
            card.truth.name: max(peak.used_bytes for peak in card.peaks.values()) for card in cards
        },
        phases=fresh.peaks,
    )


def _ran_out(cards: Sequence[Card]) -> dict[str, RanOut]:
    return {card.truth.name: card.ran_out for card in cards if card.ran_out is not None}
