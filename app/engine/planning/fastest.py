"""The fastest way to stream a component of those that fit, without looking at all of them."""

from collections.abc import Callable

from app.engine.planning.kept import Kept, Ways, all_ways, resident, with_files
from app.engine.planning.order import first_in_order
from app.engine.planning.phase_need import Names
from app.engine.planning.problem import PlanProblem
from app.engine.planning.streaming_cost import StreamingCost

CLOSE = 1 - 1e-9
"""What cannot be better by more than rounding is not looked at."""


def fastest_kept(
    problem: PlanProblem,
    name: str,
    staying: Names,
    *,
    has_room: Callable[[Kept], bool],
    is_allowed: Callable[[Kept], bool],
    streaming: Callable[[], StreamingCost],
    spare_s: Callable[[], float] = lambda: float("inf"),
) -> Kept | None:
    """The fastest fitting way to keep a component; whole, it is faster than streamed.

    Args:
        problem: What is planned.
        name: Of the component.
        staying: What is on the device for the whole run.
        has_room: Whether the device has room for a way; if it has, it has for smaller ones.
        is_allowed: Whether the memory mode allows a way.
        streaming: Says how long ways to stream take.
        spare_s: What streaming may take at most; longer is of no use.
    """
    ways = all_ways(problem, name)
    whole = resident(problem.weights[name]) if name in staying else ways.whole
    if whole and has_room(whole) and is_allowed(whole):
        return whole
    if name in staying or not ways.streamed or not has_room(ways.by_size[-1]):
        return None
    return fastest_streamed(
        problem,
        name,
        ways,
        streaming(),
        has_room=has_room,
        is_allowed=is_allowed,
        below_s=spare_s(),
    )


def fastest_streamed(
    problem: PlanProblem,
    name: str,
    ways: Ways,
    streaming: StreamingCost,
    *,
    has_room: Callable[[Kept], bool],
    is_allowed: Callable[[Kept], bool],
    below_s: float = float("inf"),
) -> Kept | None:
    """Of ways that fit the fastest by the timeline; of equally fast ones the smallest.

    Ways are looked at in the order of what they take at least, which does not depend on the
    memory there is, until none can be faster than the best so far. So the answer is exactly the
    fastest, and more memory, which only adds ways, never makes it slower.

    Args:
        problem: What is planned.
        name: Of the component.
        ways: To choose from.
        streaming: Says how long they take.
        has_room: Whether there is memory for a way; if there is, there is for smaller ones.
        is_allowed: Whether the memory mode allows a way.
        below_s: Slower ways are of no use.

    Returns:
        The way, or None where none fits or none is fast enough.
    """
    # The first of the ways takes least of all.
    if not ways.streamed or streaming.least_seconds(ways.streamed[0]) >= below_s * CLOSE:
        return None
    largest = first_in_order(ways.by_size, has_room)
    if largest is None:
        return None
    best: Kept | None = None
    for kept in ways.streamed:
        if kept.device_bytes > largest.device_bytes or not is_allowed(kept):
            continue
        if streaming.least_seconds(kept) >= below_s * CLOSE:
            break
        told = with_files(problem, name, kept)
        if told.file_blocks and streaming.unread_seconds(told) >= below_s:
            continue
        seconds = streaming.seconds(told)
        if seconds < below_s:
            best, below_s = told, seconds
    return best
