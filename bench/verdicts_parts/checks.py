"""Verdicts held against what happens: what fits is carried out, what is refused is forced."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.core.plan import GenerationPlan, Verdict
from app.core.policy import Precision
from app.engine.planner import largest_smaller_size, most_images
from app.engine.planning.components import TRANSFORMER
from app.engine.planning.sizes import smaller_sizes
from bench.verdicts_parts.card import PhasePeak, RanOut
from bench.verdicts_parts.cases import SHORT, Case, Planned
from bench.verdicts_parts.outcome import carry_out


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """One phase: as planned, and as it was.

    Attributes:
        phase: Its name.
        planned_bytes: Weights and working memory.
        tensor_bytes: The same when it was carried out, with what the libraries take.
        planned_peak_bytes: With context and reserve.
        peak_bytes: The same when it was carried out, where the allocator has all it likes.
        doubt_bytes: Of the plan.
    """

    phase: str
    planned_bytes: int
    tensor_bytes: int
    planned_peak_bytes: int
    peak_bytes: int
    doubt_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plan that was carried out.

    Attributes:
        kind: "fits": the verdict's own plan; "would fit": what a refusal offers; "refused": what it
            refuses, in the way that needs least.
        case: In words.
        model: Of the case.
        growing: Whether segments can grow, of the case.
        card_gb: The smallest card with this plan.
        cards: How many cards have it.
        precision: Of the transformer.
        mode: Of memory.
        verdict: Of the plan.
        budget_bytes: That it may use.
        needed_bytes: As it says, doubt included.
        ran_out: By the truth's name: phase, and what was wanted.
        short: The same of a card that has just what is said to be needed.
        peaks: By the truth's name.
        phases: Each.
    """

    kind: str
    case: str
    model: str
    growing: bool
    card_gb: float
    cards: int
    precision: str
    mode: str
    verdict: str
    budget_bytes: int
    needed_bytes: int
    ran_out: dict[str, str]
    short: dict[str, str]
    peaks: dict[str, int]
    phases: tuple[PhaseRow, ...]


def rows_of(planned: Planned) -> Iterator[Row]:
    """Carry out what there is to be tried of one plan."""
    case, plan = planned.case, planned.plan
    if plan.verdict is not Verdict.DOES_NOT_FIT:
        yield _row("fits", case, plan, len(planned.cards_gb))
    if plan.verdict in SHORT:
        for offered in offers(case):
            found = offered.plan()
            if found.verdict is not Verdict.DOES_NOT_FIT:
                yield _row("would fit", offered, found)
        refused = refused_by(case, plan)
        if refused is not None:
            yield _row("refused", *refused)


def offers(case: Case) -> list[Case]:
    """What a refusal says would fit: fewer images, and the largest size for one."""
    problem = case.problem()
    found: list[Case] = []
    count = most_images(problem, *case.size)
    if count:
        found.append(replace(case, images=count, strict=True))
    size = largest_smaller_size(problem, 1)
    if size is not None:
        found.append(replace(case, size=size, images=1, strict=True))
    return found


def refused_by(case: Case, plan: GenerationPlan) -> tuple[Case, GenerationPlan] | None:
    """What is refused, with the plan that needs least for it; None where RAM is what is short.

    Where nothing fits at all it is the smallest picture.
    """
    asked = replace(case, strict=True)
    if plan.verdict is Verdict.DOES_NOT_FIT:
        smaller = smaller_sizes(*case.size)
        size = smaller[0] if smaller else case.size
        asked = replace(asked, size=size, images=1)
    forced = asked.plan()
    over_device = forced.needed_bytes > forced.budget_bytes
    return (asked, forced) if over_device else None


def is_native(case: Case) -> bool:
    """Whether quantized layers use the units for 8 bits: in every other case."""
    return (sum(case.size) // 16 + case.images) % 2 == 0


def _row(kind: str, case: Case, plan: GenerationPlan, cards: int = 1) -> Row:
    outcome = carry_out(case, plan, forced=kind == "refused", native=is_native(case))
    nothing = PhasePeak()
    phases = tuple(
        PhaseRow(
            phase=one.phase.value,
            planned_bytes=one.weights_bytes + one.working_bytes,
            tensor_bytes=outcome.phases.get(one.phase, nothing).allocated_bytes,
            planned_peak_bytes=one.peak_vram_bytes,
            peak_bytes=outcome.phases.get(one.phase, nothing).used_bytes,
            doubt_bytes=one.uncertainty_bytes,
        )
        for one in plan.phases
    )
    return Row(
        kind=kind,
        case=case.words(),
        model=case.model,
        growing=case.growing,
        card_gb=case.card_gb,
        cards=cards,
        precision=precision_of(plan).value,
        mode=case.mode.value,
        verdict=plan.verdict.value,
        budget_bytes=plan.budget_bytes,
        needed_bytes=plan.needed_bytes,
        ran_out={name: _words(found) for name, found in outcome.ran_out.items()},
        short={name: _words(found) for name, found in outcome.short.items()},
        peaks=outcome.peaks,
        phases=phases,
    )


def precision_of(plan: GenerationPlan) -> Precision:
    """Of the transformer."""
    return plan.component(TRANSFORMER).precision


def _words(found: RanOut) -> str:
    return f"{found.phase.value}, for {found.wanted_bytes} bytes beside {found.used_bytes}"
