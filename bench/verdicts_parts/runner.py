"""All plans of a grid, carried out by several processes, as many as there is time for."""

import itertools
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from bench.verdicts_parts.cases import Planned
from bench.verdicts_parts.checks import Row, precision_of, rows_of
from bench.verdicts_parts.outcome import memory

Counts = dict[str, int]


def in_groups(planned: Iterable[Planned]) -> list[list[Planned]]:
    """Plans of one model and precision together: they share networks and traces.

    In a group, what shares a trace stands together, and otherwise chance decides the order, so that
    a group that is not finished is a fair sample.
    """
    groups: dict[object, dict[object, list[Planned]]] = defaultdict(lambda: defaultdict(list))
    for one in planned:
        case = one.case
        key = (one.plan.model, precision_of(one.plan))
        groups[key][case.size, case.images, case.references].append(one)
    chance = random.Random(0)
    found: list[list[Planned]] = []
    for wishes in groups.values():
        order = list(wishes.values())
        chance.shuffle(order)
        found.append(list(itertools.chain.from_iterable(order)))
    # What they leave of their time is for the larger ones.
    return sorted(found, key=len)


def carry_out_all(
    groups: Sequence[Sequence[Planned]], *, processes: int, seconds: float | None
) -> Iterator[tuple[list[Row], Counts]]:
    """Rows of each group and counts of what was done, as they come.

    Args:
        groups: Of plans.
        processes: At once.
        seconds: For all groups together; None is as long as it takes.
    """
    deadline = None if seconds is None else time.time() + seconds
    left = [-(-(len(groups) - index) // processes) for index in range(len(groups))]
    if processes == 1:
        for group, turns in zip(groups, left, strict=True):
            yield _carry_out(group, deadline, turns)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = [
            pool.submit(_carry_out, group, deadline, turns)
            for group, turns in zip(groups, left, strict=True)
        ]
        for job in as_completed(jobs):
            yield job.result()


def _carry_out(
    group: Sequence[Planned], deadline: float | None, turns: int
) -> tuple[list[Row], Counts]:
    """One group, in its share of the time that is left for this and the turns after it."""
    torch.set_num_threads(1)
    known = memory()
    known.traces.clear()
    run, played = known.run, known.played
    end = None if deadline is None else time.time() + (deadline - time.time()) / turns
    rows: list[Row] = []
    plans = 0
    for planned in group:
        if end is not None and time.time() > end:
            break
        rows += rows_of(planned)
        plans += 1
    return rows, {
        "plans_done": plans,
        "plans_left": len(group) - plans,
        "phases_run": known.run - run,
        "phases_played": known.played - played,
    }
