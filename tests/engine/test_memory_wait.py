"""Memory that others hold for a while: the run holds still for it, and goes on by itself."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.core.events import (
    Downshifted,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    RunResumed,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import DEFAULT_WAIT_S, Job, Phase
from app.core.paths import resource
from app.core.plan import GenerationPlan, Verdict
from app.core.policy import Budget, MemoryMode
from app.core.units import MIB
from app.engine.cancel import CancelFlag, CancelRequestedError
from app.engine.compute_device import CpuDevice
from app.engine.kept_runs import id_of_try
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Moment, OtherUse
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, report_of, same, simulated, strict

DEMO = Path(resource("models/demo"))
CARD_BYTES = 80 * MIB
ALL = CARD_BYTES
"""What a program takes that leaves nothing."""


def job(out: Path, *, wait_s: float = DEFAULT_WAIT_S, **request: Any) -> Job:
    values = {"width_px": 128, "height_px": 128, "steps": 3, "seed": 3, **request}
    return replace(make_job(DEMO, out, **values), policy=POLICY, previews=False, wait_s=wait_s)


def taken(*uses: tuple[Moment, int]) -> tuple[OtherUse, ...]:
    return tuple(OtherUse(at=at, bytes=size_bytes) for at, size_bytes in uses)


def card(*uses: tuple[Moment, int]) -> SimulatedDevice:
    return simulated(capacity_bytes=CARD_BYTES, others=taken(*uses))


def waits(events: list[Any]) -> list[WaitedForMemory]:
    return of_kind(events, WaitedForMemory)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The events of an undisturbed run."""
    events = Runs(card()).run(job(tmp_path_factory.mktemp("quiet")))
    assert not of_kind(events, Downshifted)
    return events


@pytest.fixture(scope="module")
def expected(quiet: list[Any]) -> dict[int, Any]:
    """The picture of an undisturbed run."""
    return pixels(quiet)


def plan_made(device: SimulatedDevice, asked: Job) -> GenerationPlan:
    """The plan that a run begins with, and no more of the run."""
    runs = Runs(device)
    runs.on_event = lambda event: runs.flag.set() if isinstance(event, PlanMade) else None
    (made,) = of_kind(runs.run(asked), PlanMade)
    return made.plan


@pytest.mark.parametrize(
    "at",
    [
        Moment(phase=Phase.ENCODE, operation=20),
        Moment(phase=Phase.DENOISE),
        Moment(phase=Phase.DENOISE, step=2, operation=30),
    ],
)
def test_memory_that_is_gone_for_eight_seconds_costs_eight_seconds(
    at: Moment, expected: dict[int, Any], tmp_path: Path
):
    events = Runs(card((at, ALL), (Moment(time_s=8.0), 0))).run(job(tmp_path))

    assert isinstance(events[-1], JobFinished)
    assert same(pixels(events), expected)
    (waited,) = waits(events)
    assert waited.enough
    assert waited.seconds == pytest.approx(8.0)
    told = of_kind(events, WaitingForMemory)
    assert {one.phase for one in told} == {at.phase}
    assert all(0 < one.missing_bytes <= CARD_BYTES for one in told)
    assert all(abs(one.others_bytes - ALL) < MIB for one in told)
    # When it begins and once more: nothing has changed meanwhile.
    assert [one.left_s for one in told] == [60.0, 55.0]
    # Nothing gave way for it, no step was done twice, and nothing was said of a failure.
    assert not of_kind(events, Downshifted)
    assert not of_kind(events, Notice)
    assert [one.step for one in of_kind(events, StepDone)] == [1, 2, 3]
    # Waiting is no part of what phases take, but of the run's own time.
    assert sum(one.seconds for one in of_kind(events, PhaseFinished)) < 1
    assert all(one.seconds < 1 for one in of_kind(events, StepDone))
    assert events[-1].seconds >= 8
    # And the phase is nothing to learn from: it began twice.
    assert at.phase not in report_of(events).measured.phases


def test_what_was_foreseen_before_it_went_on_is_old_news(expected: dict[int, Any], tmp_path: Path):
    step_2 = Moment(phase=Phase.DENOISE, step=2)
    runs = Runs(card((step_2, ALL), (Moment(time_s=3.0), 0)))
    runs.on_event = lambda event: (
        runs.relief.ask(60 * MIB, 0, "A game took all.")
        if isinstance(event, WaitingForMemory)
        else None
    )
    events = runs.run(job(tmp_path))
    assert isinstance(events[-1], JobFinished)
    assert not of_kind(events, Downshifted)
    assert same(pixels(events), expected)


def test_what_comes_back_in_part_is_used_in_the_gentlest_way(quiet: list[Any], tmp_path: Path):
    need_bytes = of_kind(quiet, PlanMade)[0].plan.phase(Phase.DENOISE).peak_vram_bytes
    step_1 = Moment(phase=Phase.DENOISE, step=1)
    some = (Moment(time_s=5.0), CARD_BYTES - need_bytes + 4 * MIB)
    events = Runs(card((step_1, ALL), some)).run(job(tmp_path))
    assert isinstance(events[-1], JobFinished)
    assert [one.enough for one in waits(events)] == [True]
    rungs = of_kind(events, Downshifted)
    assert rungs
    assert {rung.phase for rung in rungs} == {Phase.DENOISE}
    assert same(pixels(events), pixels(quiet))


def test_what_does_not_come_back_is_refused_as_without_waiting(tmp_path: Path):
    step_2 = Moment(phase=Phase.DENOISE, step=2)
    # As always, it is a little more or less all the time.
    growing = OtherUse(at=step_2, bytes=ALL - MIB, bytes_per_s=MIB / 60)
    device = simulated(capacity_bytes=CARD_BYTES, others=(growing,))
    events = Runs(device).run(strict(job(tmp_path)))
    (waited,) = waits(events)
    assert not waited.enough
    assert waited.seconds == pytest.approx(60.0)
    told = of_kind(events, WaitingForMemory)
    assert [one.left_s for one in told] == pytest.approx(range(60, 0, -5))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.out_of_memory"
    assert "MB are missing." in failed.error.message
    assert failed.error.message.endswith(
        "Headroom waited 1 min 00 s for other programs to free memory."
    )
    assert len(of_kind(events, Notice)) == 1
    assert device.allocated_bytes() < MIB


def test_what_was_refused_goes_on_where_it_was_when_it_is_tried_again(
    expected: dict[int, Any], tmp_path: Path
):
    kept, asked = tmp_path / "runs", strict(job(tmp_path / "out"))
    lacking = Runs(card((Moment(phase=Phase.DENOISE, step=2), ALL)))
    assert isinstance(lacking.run(asked, keep_folder=kept)[-1], JobFailed)
    # Refused once more, before it begins: what is kept stays.
    again = replace(asked, id=id_of_try(asked.id, {asked.id}))
    assert isinstance(Runs(card((Moment(), ALL))).run(again, keep_folder=kept)[-1], JobFailed)
    again = replace(asked, id=id_of_try(again.id, {asked.id, again.id}))
    events = Runs(card()).run(again, keep_folder=kept)
    assert isinstance(events[-1], JobFinished)
    assert [one.step for one in of_kind(events, RunResumed)] == [2]
    assert same(pixels(events), expected)
    assert not list(kept.iterdir())


def test_a_program_that_stays_is_waited_for_once_and_then_the_picture_is_smaller(tmp_path: Path):
    game = (Moment(phase=Phase.DENOISE, step=1), CARD_BYTES - 14 * MIB)
    events = Runs(card(game)).run(job(tmp_path, width_px=384, height_px=384, steps=2))
    assert isinstance(events[-1], JobFinished)
    assert [one.enough for one in waits(events)] == [False]
    assert of_kind(events, PlanMade)[-1].plan.verdict is Verdict.SMALLER


def test_a_program_that_comes_and_goes_ends_the_waiting(tmp_path: Path):
    """It takes all memory again at each operation that follows on its giving it back."""

    class Teaser(SimulatedDevice):
        def others_bytes(self) -> int:
            return self.story.capacity_bytes if self.operations > calm else 0

    calm = 10**9
    device = Teaser(card().story)
    runs = Runs(device)

    def tease(event: object) -> None:
        nonlocal calm
        match event:
            case StepDone(step=2):
                calm = device.operations
            case WaitingForMemory():
                calm = 10**9 if event.left_s < 50 else calm
            case WaitedForMemory():
                calm = device.operations + 40
            case _:
                pass

    runs.on_event = tease
    events = runs.run(strict(job(tmp_path)))
    assert isinstance(events[-1], JobFailed)
    told = waits(events)
    assert 2 <= len(told) <= 6
    assert sum(one.seconds for one in told) <= 60.0


@pytest.mark.parametrize("phase", [Phase.ENCODE, Phase.DECODE])
def test_what_the_cpu_can_do_is_not_waited_for(phase: Phase, tmp_path: Path):
    class Full(SimulatedDevice):
        is_full = False

        def others_bytes(self) -> int:
            return self.story.capacity_bytes if self.is_full else 0

    picture = tmp_path / "followed.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    device = Full(card().story)
    runs = Runs(device)
    # Of the prompt nothing is left to encode then, only the picture to follow.
    runs.run(job(tmp_path, steps=1))

    def fill(event: object) -> None:
        if isinstance(event, PhaseStarted):
            device.is_full = event.phase is phase

    runs.on_event = fill
    events = runs.run(job(tmp_path, steps=1, references=(str(picture),)))
    assert isinstance(events[-1], JobFinished)
    assert not of_kind(events, WaitingForMemory)
    on_cpu = [one.code for one in of_kind(events, Notice) if one.code.endswith("_on_cpu")]
    assert bool(on_cpu) is (phase is Phase.ENCODE)
    assert report_of(events).plan.decode_on_cpu is (phase is Phase.DECODE)


def test_each_step_may_wait_when_the_one_before_was_done(expected: dict[int, Any], tmp_path: Path):
    times = [
        (Moment(phase=Phase.DENOISE, step=1), ALL),
        (Moment(time_s=50.0), 0),
        (Moment(phase=Phase.DENOISE, step=2), ALL),
        (Moment(time_s=100.0), 0),
    ]
    events = Runs(card(*times)).run(job(tmp_path))
    assert isinstance(events[-1], JobFinished)
    assert [one.enough for one in waits(events)] == [True, True]
    assert same(pixels(events), expected)


def test_before_a_run_begins_it_waits_for_what_others_hold(
    expected: dict[int, Any], tmp_path: Path
):
    events = Runs(card((Moment(), ALL), (Moment(time_s=20.0), 0))).run(job(tmp_path))
    assert isinstance(events[-1], JobFinished)
    assert [one.enough for one in waits(events)] == [True]
    assert of_kind(events, WaitingForMemory)[0].phase is Phase.LOAD
    # Only the plan that is carried out is told.
    (made,) = of_kind(events, PlanMade)
    assert made.plan.verdict is Verdict.FITS
    assert same(pixels(events), expected)


def test_who_waits_before_a_run_wants_no_smaller_picture(tmp_path: Path):
    asked = job(tmp_path, width_px=448, height_px=448, steps=1)
    small = (Moment(time_s=10.0), CARD_BYTES - 18 * MIB)
    device = card((Moment(), ALL), small, (Moment(time_s=30.0), 0))
    assert plan_made(device, asked).width_px == 448
    # It is better than nothing.
    assert plan_made(card((Moment(), ALL), small), asked).verdict is Verdict.SMALLER


def test_before_a_run_begins_it_is_refused_when_the_memory_does_not_come(tmp_path: Path):
    events = Runs(card((Moment(), ALL))).run(job(tmp_path, wait_s=7.25))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "engine.does_not_fit"
    assert failed.error.message.endswith(
        " Headroom waited 7.25 s for other programs to free memory."
    )
    (waited,) = waits(events)
    assert waited.seconds == pytest.approx(7.25)


def test_what_the_card_could_never_give_is_refused_at_once(tmp_path: Path):
    small = simulated(capacity_bytes=2 * MIB, others=taken((Moment(), MIB)))
    events = Runs(small).run(job(tmp_path))
    assert isinstance(events[-1], JobFailed)
    assert not of_kind(events, WaitingForMemory)
    assert small.clock_s() < 1


@pytest.mark.parametrize("at", [Moment(), Moment(phase=Phase.DENOISE, step=1)])
def test_nobody_waits_who_does_not_want_to(at: Moment, tmp_path: Path):
    device = card((at, ALL))
    events = Runs(device).run(strict(job(tmp_path, wait_s=0.0)))
    assert isinstance(events[-1], JobFailed)
    assert not of_kind(events, WaitingForMemory)
    assert "waited" not in events[-1].error.message
    assert device.clock_s() < 1


def test_a_budget_that_is_widened_meanwhile_ends_the_waiting(tmp_path: Path):
    asked = job(tmp_path, width_px=320)
    asked = replace(asked, policy=replace(asked.policy, headroom_bytes=52 * MIB))
    runs = Runs(card((Moment(), 20 * MIB)))
    runs.on_event = lambda event: (
        runs.relief.change_budget(Budget(headroom_bytes=0, limit_bytes=None, mode=MemoryMode.AUTO))
        if isinstance(event, WaitingForMemory)
        else None
    )
    events = runs.run(strict(asked))
    assert isinstance(events[-1], JobFinished), events[-1]
    (waited,) = waits(events)
    assert waited.seconds <= 0.5


@pytest.mark.parametrize("at", [Moment(), Moment(phase=Phase.DENOISE, step=2)])
def test_cancelling_ends_the_waiting(at: Moment, tmp_path: Path):
    device = card((at, ALL))
    runs = Runs(device)
    runs.on_event = lambda event: runs.flag.set() if isinstance(event, WaitingForMemory) else None
    events = runs.run(job(tmp_path))
    assert isinstance(events[-1], JobCancelled)
    assert device.clock_s() <= 1
    assert device.allocated_bytes() < MIB


def test_an_app_that_is_closed_meanwhile_loses_nothing(expected: dict[int, Any], tmp_path: Path):
    device = card((Moment(phase=Phase.DENOISE, step=2), ALL))
    runs = Runs(device)
    kept: list[bool] = []

    def close(event: object) -> None:
        if isinstance(event, WaitingForMemory):
            # Before the app says a word: the engine may also be killed.
            kept.append(any((tmp_path / "runs").glob("*")))
            runs.flag.set(goes_on=True)

    runs.on_event = close
    asked = job(tmp_path / "out")
    assert isinstance(runs.run(asked, keep_folder=tmp_path / "runs")[-1], JobCancelled)
    assert kept == [True]
    events = Runs(card()).run(asked, keep_folder=tmp_path / "runs")
    assert isinstance(events[-1], JobFinished)
    assert [one.step for one in of_kind(events, RunResumed)] == [2]
    assert same(pixels(events), expected)


def test_the_cpu_waits_for_nobody(tmp_path: Path):
    asked = job(tmp_path, steps=1)
    short = replace(asked.policy, limit_bytes=MIB)
    events = Runs(CpuDevice()).run(strict(replace(asked, policy=short)))
    assert isinstance(events[-1], JobFailed)
    assert not of_kind(events, WaitingForMemory)


def test_a_pause_ends_when_the_job_is_taken_back():
    flag = CancelFlag()
    ended = threading.Event()

    def pause() -> None:
        with pytest.raises(CancelRequestedError):
            flag.pause(3600.0)
        ended.set()

    thread = threading.Thread(target=pause, daemon=True)
    thread.start()
    flag.set()
    thread.join(60.0)
    assert ended.is_set()
    CancelFlag().pause(0.0)
