"""Where weights are, chosen anew in the middle of a run: nothing that makes the picture changes.

Pure: the planner's own accounts and order of ways, with size, images, parts and decode as they are.
Only phases to come count, and only what they gain: weights that no phase needs any more may leave,
and come back with the next run.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import GenerationPlan, Placement, Rung
from app.core.policy import Budget, MemoryMode
from app.engine.planning.changes import changes_of
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.fastest import fastest_streamed
from app.engine.planning.kept import Kept, all_ways, in_turns, least, resident
from app.engine.planning.phase_need import Names, PhaseNeed
from app.engine.planning.phase_needs import PhaseNeeds
from app.engine.planning.problem import PlanProblem, pose
from app.engine.planning.reasons import reasons_of
from app.engine.planning.way import streaming_seconds
from app.engine.replan import decode_way, kept_by, placed, refigured, streamed, way_of

PHASES = {TEXT_ENCODER: Phase.ENCODE, TRANSFORMER: Phase.DENOISE, AUTOENCODER: Phase.DECODE}
"""In which each component computes."""
GAIN_S = 1e-6
"""What is not quicker by more than rounding is no reason to move weights."""


def with_budget(problem: PlanProblem, budget: Budget, free_bytes: int) -> PlanProblem:
    """The same problem with another budget.

    A run that has begun cannot be refused any more: "everything, or nothing runs" becomes as much
    as there is room for.

    Args:
        problem: The plan in force was made for.
        budget: That the user wants.
        free_bytes: What a run of ours can have of the device now.
    """
    if budget.mode is MemoryMode.RESIDENT:
        budget = replace(budget, mode=MemoryMode.AUTO)
    policy = budget.applied_to(problem.policy)
    device = replace(problem.device, free_bytes=free_bytes)
    posed = pose(
        problem.request,
        device,
        problem.host,
        policy,
        problem.coefficients,
        limits=problem.limits,
        references=problem.references,
        loaded=problem.loaded,
    )
    # Precisions and all else are of weights that are loaded.
    return replace(problem, policy=policy, device=device, budget_bytes=posed.budget_bytes)


def refitted(
    problem: PlanProblem, plan: GenerationPlan, phases: tuple[Phase, ...]
) -> GenerationPlan:
    """The plan with weights where the problem's budget wants them.

    They stay where they are unless that is over the budget, or there is a quicker way. Where a
    phase is over it in the smallest way, nothing is on the device but what computes.

    Args:
        problem: With the budget; see `with_budget`.
        plan: In force.
        phases: That are still to come, the present one included.
    """
    if problem.on_cpu:
        return replace(plan, budget_bytes=problem.budget_bytes)
    choice = _Search(problem, plan, phases).best()
    return described(problem, _with(plan, choice))


def lightest(
    problem: PlanProblem, plan: GenerationPlan, phases: tuple[Phase, ...]
) -> GenerationPlan:
    """The plan with as little weights on the device as it goes; see `refitted`."""
    choice = _Search(problem, plan, phases).smallest()
    return refigured(problem, _with(plan, choice))


def described(problem: PlanProblem, plan: GenerationPlan) -> GenerationPlan:
    """A plan whose weights were placed anew, with figures and words that belong to it."""
    plan = replace(refigured(problem, plan), budget_bytes=problem.budget_bytes)
    way = way_of(problem, plan)
    streams = tuple(one for one in changes_of(problem, way) if one.rung is Rung.STREAM)
    others = tuple(one for one in plan.changes if one.rung is not Rung.STREAM)
    plan = replace(plan, changes=(*streams, *others))
    seconds = streaming_seconds(problem, way)
    return replace(plan, reasons=reasons_of(problem, plan, streaming_s=seconds))


def needed_bytes(plan: GenerationPlan, phases: tuple[Phase, ...]) -> int:
    """What the phases need at most of the device, with uncertainty."""
    return max((plan.phase(phase).needed_bytes for phase in (*phases, Phase.SAVE)), default=0)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What stays on the device, and how the others come; those left out are as they were."""

    staying: Names
    kept: Mapping[str, Kept]


class _Search:
    """Looks through the choices for the phases to come."""

    def __init__(
        self, problem: PlanProblem, plan: GenerationPlan, phases: tuple[Phase, ...]
    ) -> None:
        self._problem = problem
        self._plan = plan
        self._phases = phases
        self._needs = PhaseNeeds(
            problem, width_px=plan.width_px, height_px=plan.height_px, images=plan.images
        )
        self._decode = decode_way(problem, plan, self._needs)
        self._resident: Names = frozenset(
            one.name for one in plan.components if one.placement is Placement.RESIDENT
        )

    def best(self) -> _Choice:
        present = self._present()
        best, best_s = None, float("inf")
        if self._is_allowed(present):
            best, best_s = present, self._seconds(present)
        for staying in self._sets_that_stay():
            choice = self._fitting(staying)
            seconds = best_s if choice is None else self._seconds(choice)
            if seconds < best_s - GAIN_S or best is None:
                best, best_s = choice, seconds
        return self._least() if best is None else best

    def _least(self) -> _Choice:
        """For each phase what fits, and the smallest way where nothing does."""
        nothing: Names = frozenset()
        smallest = self.smallest()
        kept = {
            name: self._fitting_kept(name, nothing) or smallest.kept[name] for name in smallest.kept
        }
        return _Choice(nothing, kept)

    def smallest(self) -> _Choice:
        kept = {name: least(self._problem, name) for name in self._coming()}
        return _Choice(frozenset(), kept)

    def _present(self) -> _Choice:
        kept = {name: kept_by(self._problem, self._plan.component(name)) for name in self._coming()}
        return _Choice(self._resident, kept)

    def _coming(self) -> tuple[str, ...]:
        """Components with blocks whose phase is still to come."""
        return tuple(name for name in (TEXT_ENCODER, TRANSFORMER) if PHASES[name] in self._phases)

    def _sets_that_stay(self) -> Iterator[Names]:
        """The most first."""
        if self._problem.policy.mode is MemoryMode.MINIMAL:
            yield frozenset()
            return
        useful = [name for name in COMPONENTS if PHASES[name] in self._phases]
        may_stay = [name for name in COMPONENTS if name in self._resident or name in useful]
        if self._decode.on_cpu and AUTOENCODER in may_stay:
            may_stay.remove(AUTOENCODER)
        for count in range(len(may_stay), -1, -1):
            yield from map(frozenset, itertools.combinations(may_stay, count))

    def _is_allowed(self, choice: _Choice) -> bool:
        """Whether it is one of the ways of the memory mode, and fits."""
        if choice.staying not in set(self._sets_that_stay()):
            return False
        if self._problem.policy.mode is MemoryMode.MINIMAL and choice != self.smallest():
            return False
        return self._fits_rest(choice) and all(
            self._fits(name, choice.staying, kept) for name, kept in choice.kept.items()
        )

    def _fitting(self, staying: Names) -> _Choice | None:
        kept: dict[str, Kept] = {}
        for name in self._coming():
            found = self._fitting_kept(name, staying)
            if found is None:
                return None
            kept[name] = found
        choice = _Choice(staying, kept)
        return choice if self._fits_rest(choice) else None

    def _fitting_kept(self, name: str, staying: Names) -> Kept | None:
        """The fastest way to keep a component that fits, as the planner chooses it."""
        ways = all_ways(self._problem, name)
        whole = resident(self._problem.weights[name]) if name in staying else ways.whole
        if whole is not None and self._fits(name, staying, whole):
            return whole
        if name in staying:
            return None
        needs, batch = self._needs, self._plan.batch
        to_encode = name == TEXT_ENCODER
        return fastest_streamed(
            self._problem,
            name,
            ways,
            needs.any_size.streaming_encode if to_encode else needs.streaming_denoise(batch),
            has_room=(
                (lambda kept: needs.any_size.has_room_to_encode(staying, kept))
                if to_encode
                else (lambda kept: needs.has_room_to_denoise(staying, kept, batch))
            ),
            is_allowed=lambda kept: needs.any_size.is_allowed(staying, name, kept),
        )

    def _fits(self, name: str, staying: Names, kept: Kept) -> bool:
        return self._needs.any_size.is_allowed(staying, name, kept) and self._needs.fits(
            PHASES[name], self._need(name, staying, kept)
        )

    def _need(self, name: str, staying: Names, kept: Kept) -> PhaseNeed:
        if name == TEXT_ENCODER:
            return self._needs.any_size.encode(staying, kept)
        if name == TRANSFORMER:
            return self._needs.denoise(staying, kept, self._plan.batch)
        return self._needs.decode(staying, self._decode)

    def _fits_rest(self, choice: _Choice) -> bool:
        """Whether there is room to decode, and afterwards for what stays."""
        needs, weights = self._needs, self._problem.weights
        at_the_end = PhaseNeed(sum(weights[name] for name in choice.staying), 0, 0.0)
        if not needs.fits(Phase.SAVE, at_the_end):
            return False
        return Phase.DECODE not in self._phases or needs.fits(
            Phase.DECODE, needs.decode(choice.staying, self._decode)
        )

    def _seconds(self, choice: _Choice) -> float:
        """Of the phases to come, and to bring what is to stay from now on."""
        staying = choice.staying
        seconds = sum(self._bringing_seconds(name, staying) for name in staying - self._resident)
        seconds += sum(
            self._need(name, staying, kept).seconds for name, kept in choice.kept.items()
        )
        if Phase.DECODE in self._phases:
            seconds += self._needs.decode(staying, self._decode).seconds
        return seconds

    def _bringing_seconds(self, name: str, staying: Names) -> float:
        """What it takes to have a component on the device: once, as for one that comes in turns."""
        others = staying - {name}
        turns = self._need(name, others, in_turns(self._problem, name))
        stays = self._need(name, staying, resident(self._problem.weights[name]))
        return turns.seconds - stays.seconds


def _with(plan: GenerationPlan, choice: _Choice) -> GenerationPlan:
    plan = placed(plan, choice.staying, Placement.RESIDENT)
    leaving = [
        one.name
        for one in plan.components
        if one.placement is Placement.RESIDENT and one.name not in choice.staying
    ]
    plan = placed(plan, leaving, Placement.TURNS)
    for name, kept in choice.kept.items():
        if kept.placement is Placement.STREAMED:
            plan = streamed(plan, name, kept)
        elif name not in choice.staying:
            plan = placed(plan, [name], Placement.TURNS)
    return plan
