"""How a component's weights are kept on the device."""

import functools
from dataclasses import dataclass

from app.core.plan import Placement
from app.core.policy import MemoryMode
from app.engine.planning.block_residency import BlockResidency, block_residencies
from app.engine.planning.problem import PlanProblem


@dataclass(frozen=True, slots=True)
class Kept:
    """One component's weights.

    Attributes:
        placement: Where they are.
        device_bytes: At most on the device while the component runs.
        stays_bytes: That stay there all the while.
        streamed_bytes: That come in each time it runs.
        streamed_blocks: Which blocks do.
    """

    placement: Placement
    device_bytes: int
    stays_bytes: int
    streamed_bytes: int = 0
    streamed_blocks: tuple[int, ...] = ()


def resident(weights_bytes: int) -> Kept:
    """All of them, all the time."""
    return Kept(Placement.RESIDENT, weights_bytes, weights_bytes)


def ways_to_come(problem: PlanProblem, name: str) -> tuple[Kept, ...]:
    """Ways for a component that is on the device in its own phase only.

    Each needs less memory than the one before, and more time.
    """
    minimal = problem.policy.mode is MemoryMode.MINIMAL
    return _ways_to_come(problem.weights[name], problem.blocks[name], minimal=minimal)


@functools.lru_cache(maxsize=64)
def _ways_to_come(weights: int, blocks: tuple[int, ...], *, minimal: bool) -> tuple[Kept, ...]:
    turns = Kept(Placement.TURNS, weights, weights)
    ways = (turns, *(_streamed(weights, blocks, way) for way in block_residencies(blocks)))
    return ways[-1:] if minimal else ways


def least(problem: PlanProblem, name: str) -> Kept:
    """The way for a component that needs least memory on the device."""
    if problem.on_cpu or problem.policy.mode is MemoryMode.RESIDENT:
        return resident(problem.weights[name])
    return ways_to_come(problem, name)[-1]


def _streamed(weights: int, blocks: tuple[int, ...], residency: BlockResidency) -> Kept:
    return Kept(
        Placement.STREAMED,
        weights - sum(blocks) + residency.device_bytes,
        weights - residency.streamed_bytes,
        residency.streamed_bytes,
        residency.streamed_blocks,
    )
