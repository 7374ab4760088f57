"""How a component's weights are kept: on the device, in RAM, or only on the disk."""

import functools
import operator
from dataclasses import dataclass
from typing import NamedTuple

from app.core.plan import Placement
from app.core.policy import MemoryMode
from app.engine.planning.block_residency import block_residencies, spread_evenly
from app.engine.planning.problem import PlanProblem, once


class Kept(NamedTuple):
    """One component's weights; there are hundreds of ways, so they are made quickly.

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


_SIZES = operator.attrgetter("device_bytes", "streamed_bytes")


def resident(weights_bytes: int) -> Kept:
    """All of them on the device, all the time."""
    return Kept(Placement.RESIDENT, weights_bytes, weights_bytes)


def in_turns(problem: PlanProblem, name: str) -> Kept:
    """All of them on the device while the component runs."""
    return _in_turns(problem.weights[name], problem.ram_rooms[name])


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways for a component that is on the device in its own phase only.

    What RAM does not hold of the streamed ones is not yet said; see `with_files`.

    Attributes:
        whole: All of it at once; None where the memory mode forbids that.
        streamed: Block by block: those that stream least first, then those that need least memory.
        by_size: The same, those that need most memory first.
    """

    whole: Kept | None
    streamed: tuple[Kept, ...]
    by_size: tuple[Kept, ...]


def all_ways(problem: PlanProblem, name: str) -> Ways:
    """All ways for a component to come to the device; `fastest_streamed` chooses among them."""
    return once(problem, _ways_of_all)[name]


def _ways_of_all(problem: PlanProblem) -> dict[str, Ways]:
    return {name: _ways_of(problem, name) for name in problem.weights}


def _ways_of(problem: PlanProblem, name: str) -> Ways:
    streamed, by_size = _streamed_ways(problem.weights[name], problem.blocks[name])
    if problem.policy.mode is MemoryMode.MINIMAL and streamed:
        smallest = by_size[-1:]
        return Ways(None, smallest, smallest)
    return Ways(in_turns(problem, name), streamed, by_size)


def ways_to_come(problem: PlanProblem, name: str) -> tuple[Kept, ...]:
    """Some of them in a row: each needs less memory than the one before, and streams more."""
    ways = all_ways(problem, name)
    found = [] if ways.whole is None else [ways.whole]
    for kept in ways.streamed:
        if not found or kept.device_bytes < found[-1].device_bytes:
            found.append(with_files(problem, name, kept))
    return tuple(found)


def with_files(problem: PlanProblem, name: str, kept: Kept) -> Kept:
    """The same, with what RAM does not hold of it."""
    room = problem.ram_rooms[name]
    if kept.placement is not Placement.STREAMED or problem.weights[name] <= room:
        return kept
    return _with_files(kept, problem.weights[name], problem.blocks[name], room)


def least(problem: PlanProblem, name: str) -> Kept:
    """The way for a component that needs least memory on the device."""
    if problem.on_cpu or problem.policy.mode is MemoryMode.RESIDENT:
        return resident(problem.weights[name])
    ways = all_ways(problem, name)
    if ways.by_size:
        return with_files(problem, name, ways.by_size[-1])
    return in_turns(problem, name)


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
def _streamed_ways(
    weights: int, blocks: tuple[int, ...]
) -> tuple[tuple[Kept, ...], tuple[Kept, ...]]:
    """All of them, and the same by their size."""
    streamed = tuple(
        Kept(
            Placement.STREAMED,
            weights - way.streamed_bytes + way.slots_bytes,
            weights - way.streamed_bytes,
            way.streamed_bytes,
            way.streamed_blocks,
            way.slots_bytes,
        )
        for way in block_residencies(blocks)
    )
    by_size = sorted(streamed, key=_SIZES, reverse=True)
    return streamed, tuple(by_size)


@functools.lru_cache(maxsize=64)
def _in_turns(weights: int, room: int) -> Kept:
    kept = Kept(Placement.TURNS, weights, weights)
    return kept._replace(unheld_bytes=weights - room) if weights > room else kept


@functools.lru_cache(maxsize=256)
def _with_files(kept: Kept, weights: int, blocks: tuple[int, ...], room: int) -> Kept:
    files: tuple[int, ...] = ()
    # RAM is first of all for what comes in again and again.
    if kept.streamed_bytes > room:
        files = _blocks_of(blocks, kept.streamed_blocks, kept.streamed_bytes - room)
    return kept._replace(
        file_blocks=files,
        file_bytes=sum(blocks[index] for index in files),
        unheld_bytes=weights - room,
    )


def _blocks_of(blocks: tuple[int, ...], among: tuple[int, ...], size_bytes: int) -> tuple[int, ...]:
    """As few evenly spread blocks as have that size together."""
    least_count = -(-size_bytes // max(blocks[index] for index in among))
    for count in range(least_count, len(among)):
        chosen = tuple(among[index] for index in sorted(spread_evenly(len(among), count)))
        if sum(blocks[index] for index in chosen) >= size_bytes:
            return chosen
    return among
