"""RAM during a run: what really goes is told, and files that are mapped or let go are not."""

from collections.abc import Callable

import pytest

from app.core.device import HostSnapshot
from app.core.events import PhaseStarted, PlanMade, StepDone
from app.core.jobs import Phase
from app.core.units import GIB
from app.monitor.host_watch import ram_watch
from app.monitor.run_progress import RunProgress
from app.monitor.shortage import Cause, Shortage
from tests.fakes.engine_memory import engine_memory
from tests.fakes.memory_story import make_plan

TOTAL_GIB = 32.0
SECONDS = 8.0
MEMORY = engine_memory()
At = Callable[[float], float]


def ramp(*, since_s: float, until_s: float, begin: float, end: float) -> At:
    """From one value to another in a straight line."""

    def at(time_s: float) -> float:
        share = min(1.0, max(0.0, (time_s - since_s) / (until_s - since_s)))
        return begin + share * (end - begin)

    return at


def always(value: float) -> At:
    return lambda _time_s: value


def worst(
    *, available_gib: At, rss_gib: At, ram_gib: float, on_cpu: bool = False
) -> Shortage | None:
    """The largest shortage that is seen in a denoise of these seconds, ten samples a second."""
    plan = make_plan(ram_gib=ram_gib, total_gib=TOTAL_GIB if on_cpu else 12.0)
    progress = RunProgress(PlanMade(job_id="job", plan=plan))
    progress.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    progress.note(StepDone(job_id="job", step=1, steps=8, seconds=1.0, memory=MEMORY))
    watch = ram_watch(total_bytes=round(TOTAL_GIB * GIB), on_cpu=on_cpu)
    found: list[Shortage] = []
    for tenths in range(round(SECONDS * 10)):
        time_s = tenths / 10
        snapshot = HostSnapshot(
            total_bytes=round(TOTAL_GIB * GIB),
            available_bytes=round(available_gib(time_s) * GIB),
            engine_rss_bytes=round(rss_gib(time_s) * GIB),
            swap_used_bytes=0,
            swap_total_bytes=8 * GIB,
        )
        shortage = watch.look(time_s, snapshot, progress)
        if shortage is not None and shortage.short_bytes > 0:
            found.append(shortage)
    return max(found, key=lambda one: one.short_bytes, default=None)


TAKES_LITTLE = ramp(since_s=2.0, until_s=4.0, begin=8.0, end=7.4)
"""Another program takes 0.6 of the 8 GiB that are left: plenty remains."""


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("ram_gib", [2.0, 6.0, 9.0])
def test_mapped_files_that_are_let_go_are_nobody_s_gain(ram_gib: float, on_cpu: bool) -> None:
    rss = ramp(since_s=2.0, until_s=4.0, begin=8.0, end=0.0)
    for available in (always(7.4), TAKES_LITTLE):
        assert worst(available_gib=available, rss_gib=rss, ram_gib=ram_gib, on_cpu=on_cpu) is None


@pytest.mark.parametrize("on_cpu", [True, False])
def test_mapped_files_that_come_are_no_gain_to_lose_later(on_cpu: bool) -> None:
    goes = ramp(since_s=2.0, until_s=4.0, begin=8.0, end=1.0)

    def rss(time_s: float) -> float:
        return goes(time_s) if time_s >= 1.0 else 1.0

    assert worst(available_gib=TAKES_LITTLE, rss_gib=rss, ram_gib=1.0, on_cpu=on_cpu) is None


@pytest.mark.parametrize("on_cpu", [True, False])
def test_what_is_really_taken_is_told(on_cpu: bool) -> None:
    taken = ramp(since_s=2.0, until_s=5.0, begin=8.0, end=0.1)
    for rss in (always(4.0), ramp(since_s=2.0, until_s=4.0, begin=8.0, end=0.0)):
        found = worst(available_gib=taken, rss_gib=rss, ram_gib=4.0, on_cpu=on_cpu)
        assert found is not None
        assert found.cause is Cause.RAM


def test_what_we_gave_back_and_another_takes_is_told() -> None:
    """All that is used is what it was when the plan was made, but less of it is ours."""

    def available(time_s: float) -> float:
        return 2.0 if time_s < 2.0 else max(2.0, 8.0 - 4.0 * max(0.0, time_s - 4.0))

    def rss(time_s: float) -> float:
        return 8.0 if time_s < 2.0 else 2.0

    assert worst(available_gib=available, rss_gib=rss, ram_gib=6.0, on_cpu=True) is not None
