"""How a component's weights are kept: on the device, in RAM, or only on the disk."""

import functools
from dataclasses import dataclass, replace

from app.core.plan import Placement
from app.core.policy import MemoryMode
from app.engine.planning.block_residency import (
    BlockResidency,
    block_residencies,
    spread_evenly,
)
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
        slots_bytes: Of `device_bytes`, what streamed blocks pass through.
        file_blocks: Of the streamed blocks, those that RAM cannot hold.
        file_bytes: Of these blocks, read from the disk each time it runs.
        unheld_bytes: Of all its weights, what RAM cannot hold: read when the component comes.
    """

    placement: Placement
    device_bytes: int
    stays_bytes: int
    streamed_bytes: int = 0
    streamed_blocks: tuple[int, ...] = ()
    slots_bytes: int = 0
    file_blocks: tuple[int, ...] = ()
    file_bytes: int = 0
    unheld_bytes: int = 0


def resident(weights_bytes: int) -> Kept:
    """All of them on the device, all the time."""
    return Kept(Placement.RESIDENT, weights_bytes, weights_bytes)


def in_turns(problem: PlanProblem, name: str) -> Kept:
    """All of them on the device while the component runs."""
    return _in_turns(problem.weights[name], problem.ram_rooms[name])


def ways_to_come(problem: PlanProblem, name: str) -> tuple[Kept, ...]:
    """Ways for a component that is on the device in its own phase only.

    Each needs less memory than the one before, and more time.
    """
    minimal = problem.policy.mode is MemoryMode.MINIMAL
    room = problem.ram_rooms[name]
    return _ways_to_come(problem.weights[name], problem.blocks[name], room, minimal=minimal)


def least(problem: PlanProblem, name: str) -> Kept:
    """The way for a component that needs least memory on the device."""
    if problem.on_cpu or problem.policy.mode is MemoryMode.RESIDENT:
        return resident(problem.weights[name])
    return ways_to_come(problem, name)[-1]


def within_mode(problem: PlanProblem, kept: Kept, weights_bytes: int) -> bool:
    """Whether the memory mode allows a phase to have so many weights on the device.

    Balanced mode leaves half of what there is to others and to working memory, unless a component
    is kept in the way that needs least.

    Args:
        problem: What is planned.
        kept: How the phase's own component is kept.
        weights_bytes: On the device in the phase, with the slots.
    """
    if problem.policy.mode is not MemoryMode.BALANCED or problem.on_cpu:
        return True
    return 2 * (weights_bytes - kept.slots_bytes) <= problem.budget_bytes


@functools.lru_cache(maxsize=64)
def _ways_to_come(
    weights: int, blocks: tuple[int, ...], room: int, *, minimal: bool
) -> tuple[Kept, ...]:
    streamed = (_streamed(weights, blocks, way, room) for way in block_residencies(blocks))
    ways = (_in_turns(weights, room), *streamed)
    return ways[-1:] if minimal else ways


def _in_turns(weights: int, room: int) -> Kept:
    kept = Kept(Placement.TURNS, weights, weights)
    return replace(kept, unheld_bytes=weights - room) if weights > room else kept


def _streamed(weights: int, blocks: tuple[int, ...], residency: BlockResidency, room: int) -> Kept:
    stays = weights - residency.streamed_bytes
    files: tuple[int, ...] = ()
    # RAM is first of all for what comes in again and again.
    if residency.streamed_bytes > room:
        files = _blocks_of(blocks, residency.streamed_blocks, residency.streamed_bytes - room)
    return Kept(
        Placement.STREAMED,
        stays + residency.slots_bytes,
        stays,
        residency.streamed_bytes,
        residency.streamed_blocks,
        residency.slots_bytes,
        files,
        sum(blocks[index] for index in files),
        max(0, weights - room),
    )


def _blocks_of(blocks: tuple[int, ...], among: tuple[int, ...], size_bytes: int) -> tuple[int, ...]:
    """As few evenly spread blocks as have that size together."""
    for count in range(1, len(among)):
        chosen = tuple(among[index] for index in sorted(spread_evenly(len(among), count)))
        if sum(blocks[index] for index in chosen) >= size_bytes:
            return chosen
    return among
