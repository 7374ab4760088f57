"""The predictor on synthetic traces: what it foresees, when, and what leaves it calm."""

from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.device import HostSnapshot
from app.core.events import (
    EngineReady,
    EngineState,
    EngineStateChanged,
    JobCancelled,
    JobFinished,
    PhaseStarted,
    PlanMade,
)
from app.core.jobs import Phase
from app.core.plan import GenerationPlan
from app.core.units import GIB, MIB
from app.monitor.need_watch import DETECTION_S
from app.monitor.prediction import Prediction
from app.monitor.predictor import MemoryPredictor
from app.monitor.shortage import Cause
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, host, sample
from tests.fakes.memory_story import (
    MemoryStory,
    calm_host,
    growing,
    make_plan,
    noisy,
    phase_plan,
    steady,
    stepped,
    with_phase,
)

DENOISE_BEGINS_S = 3.0


def test_a_run_by_its_plan_is_left_alone() -> None:
    story = MemoryStory(make_plan(), steady()).play()
    assert story.told == []
    assert story.collision_s is None


def test_a_plan_that_is_tight_by_itself_is_no_reason() -> None:
    story = MemoryStory(make_plan(), steady(4.0)).play()
    assert story.told == []


@pytest.mark.parametrize("per_process", [True, False])
def test_a_game_that_starts_while_denoising_is_seen_to_leave_too_little_for_the_decode(
    per_process: bool,
) -> None:
    plan = make_plan(decode_gib=9.0, steps=28)
    game = stepped(by_gib=2.5, at_s=DENOISE_BEGINS_S + 12.25)
    story = MemoryStory(plan, game, steps=28, per_process=per_process).play()
    told = story.first
    assert (told.phase, told.step) == (Phase.DENOISE, 12)
    assert told.prediction.cause is Cause.OTHERS
    assert told.prediction.phase is Phase.DECODE
    # 9.7 planned, 0.2 unsure, 3.5 others', and a little to spare, of 12.
    assert 1.4 * GIB <= told.prediction.device_bytes <= 1.6 * GIB
    assert told.prediction.host_bytes == 0
    assert story.collision_s is not None
    assert story.collision_s >= story.phase_began_s[Phase.DECODE]
    assert len(story.told) == 1
    assert "Another program took 2.5 GB" in told.prediction.sentence
    assert "decoding would be 1.5 GB short" in told.prediction.sentence


@pytest.mark.parametrize("per_process", [True, False])
def test_what_the_run_before_left_on_the_device_is_not_another_program_s(per_process: bool) -> None:
    predictor = MemoryPredictor()
    plan = make_plan(decode_gib=9.0)
    before = MemoryStory(make_plan(), steady(), per_process=per_process, listener=predictor).play()
    held = engine_memory(7 * GIB)
    predictor.note(JobFinished(job_id="job", seconds=before.time_s, memory=held))
    game = stepped(by_gib=2.5, at_s=DENOISE_BEGINS_S + 4.25)
    story = MemoryStory(plan, game, per_process=per_process, listener=predictor, held_gib=7.5)
    told = story.play().first
    assert (told.phase, told.step) == (Phase.DENOISE, 4)
    assert told.prediction.cause is Cause.OTHERS


@pytest.mark.parametrize("per_process", [True, False])
@pytest.mark.parametrize("held_gib", [8.0, 12.0, 19.5])
def test_memory_kept_from_the_run_before_is_no_growth(held_gib: float, per_process: bool) -> None:
    denoise = phase_plan(Phase.DENOISE, weights_gib=7.0, working_gib=12.0, seconds=8.0)
    plan = with_phase(make_plan(total_gib=24.0), denoise)
    predictor = MemoryPredictor()
    reserved = round((held_gib - 0.5) * GIB)
    held = engine_memory(reserved, allocated_bytes=5 * GIB)
    predictor.note(JobFinished(job_id="before", seconds=1.0, memory=held))
    predictor.note(PlanMade(job_id="job", plan=plan))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.LOAD))
    gpu = device(
        total_gib=24.0, used_gib=held_gib + 0.5, engine_gib=held_gib if per_process else None
    )
    looks = [predictor.look(sample(at / 10, gpu=gpu)) for at in range(20)]
    assert looks == [None] * 20


def test_what_leaves_enough_is_not_told() -> None:
    story = MemoryStory(make_plan(), stepped(by_gib=2.5, at_s=6.0)).play()
    assert story.told == []


def test_a_moment_s_peak_is_not_told() -> None:
    def peak(time_s: float) -> float:
        return (10.0 if 6.0 <= time_s < 6.15 else 1.0) * GIB

    assert MemoryStory(make_plan(), peak).play().told == []


@pytest.mark.parametrize("per_process", [True, False])
def test_growth_of_another_program_is_told_before_it_collides(per_process: bool) -> None:
    others = growing(gib_per_s=0.5, from_s=DENOISE_BEGINS_S + 4.3)
    story = MemoryStory(make_plan(steps=16), others, steps=16, per_process=per_process).play()
    assert story.collision_s is not None
    told = story.first
    assert told.time_s <= story.collision_s - 1.0
    assert told.prediction.cause is Cause.OTHERS
    assert told.prediction.in_s == pytest.approx(story.collision_s - told.time_s, abs=1.0)
    assert "and it goes on" in told.prediction.sentence


@settings(max_examples=40, deadline=None)
@given(
    gib_per_s=st.floats(min_value=0.02, max_value=4.0),
    step_s=st.floats(min_value=0.2, max_value=6.0),
    free_gib=st.floats(min_value=0.5, max_value=3.0),
    starts_after_steps=st.floats(min_value=1.0, max_value=2.0),
)
def test_linear_growth_is_told_at_least_one_step_ahead(
    gib_per_s: float, step_s: float, free_gib: float, starts_after_steps: float
) -> None:
    fills_in_s = free_gib / gib_per_s
    # Nothing can be foreseen a step ahead that takes less than a step from its beginning.
    step_s = min(step_s, (fills_in_s - DETECTION_S) / 1.25)
    if step_s < 0.1:
        return
    steps = 4 + int(fills_in_s / step_s)
    plan = make_plan(steps=steps, step_s=step_s)
    others = growing(
        gib=4.0 - free_gib,
        gib_per_s=gib_per_s,
        from_s=DENOISE_BEGINS_S + starts_after_steps * step_s,
    )
    story = MemoryStory(plan, others, steps=steps, step_s=step_s).play()
    assert story.collision_s is not None
    assert story.first.time_s <= story.collision_s - step_s


@settings(max_examples=40, deadline=None)
@given(
    others_gib=st.floats(min_value=0.0, max_value=4.0),
    noise=st.lists(st.floats(min_value=-30.0, max_value=30.0), min_size=2, max_size=60),
    per_process=st.booleans(),
)
def test_noise_within_the_margin_is_never_told(
    others_gib: float, noise: list[float], per_process: bool
) -> None:
    others = noisy(steady(others_gib), (value * MIB for value in cycle(noise)))
    story = MemoryStory(make_plan(), lambda at: max(0.0, others(at)), per_process=per_process)
    assert story.play().told == []


@settings(max_examples=40, deadline=None)
@given(
    by_gib=st.floats(min_value=0.0, max_value=6.0),
    noise=st.lists(st.floats(min_value=-30.0, max_value=30.0), min_size=2, max_size=60),
    starts_at_s=st.floats(min_value=0.5, max_value=11.0),
)
def test_nothing_flaps_at_the_edge(by_gib: float, noise: list[float], starts_at_s: float) -> None:
    plan = make_plan(decode_gib=8.0)
    others = noisy(stepped(by_gib=by_gib, at_s=starts_at_s), (one * MIB for one in cycle(noise)))
    told = MemoryStory(plan, others).play().told
    assert len(told) <= 1


def test_memory_that_comes_and_goes_is_told_once_a_phase() -> None:
    def others(time_s: float) -> float:
        return (5.0 if int(time_s / 1.5) % 2 else 1.0) * GIB

    plan = make_plan(decode_gib=8.0, steps=20)
    told = MemoryStory(plan, others, steps=20).play().told
    phases = [one.phase for one in told]
    assert len(phases) == len(set(phases))


def test_the_same_phase_is_told_again_when_memory_falls_further() -> None:
    def others(time_s: float) -> float:
        return (1.0 + (2.0 if time_s > 6 else 0) + (1.0 if time_s > 8 else 0)) * GIB

    told = MemoryStory(make_plan(decode_gib=9.0), others).play().told
    assert [one.phase for one in told] == [Phase.DENOISE, Phase.DENOISE]
    first, second = (one.prediction.device_bytes for one in told)
    assert second - first == pytest.approx(GIB, abs=64 * MIB)


def test_a_relief_that_helps_ends_it() -> None:
    plan = make_plan(decode_gib=9.0)
    smaller = with_phase(
        plan, phase_plan(Phase.DECODE, weights_gib=0.2, working_gib=1.0, seconds=3.0)
    )
    game = stepped(by_gib=2.5, at_s=6.0)
    story = MemoryStory(plan, game, replanned=lambda _: smaller).play()
    assert len(story.told) == 1
    assert story.collision_s is None


def test_after_a_relief_only_a_real_fall_is_told_in_the_same_phase() -> None:
    plan = make_plan(decode_gib=9.0, steps=5)
    smaller = with_phase(
        plan, phase_plan(Phase.DECODE, weights_gib=0.2, working_gib=7.5, seconds=3.0)
    )

    def others(time_s: float) -> float:
        return (1.0 + (2.0 if time_s > 6 else 0) + (1.24 if time_s > 8 else 0)) * GIB

    story = MemoryStory(plan, others, steps=5, replanned=lambda _: smaller).play()
    told = [one.phase for one in story.told]
    assert told == [Phase.DENOISE, Phase.DECODE], "0.2 GB wait for the next phase"


@pytest.mark.parametrize("per_process", [True, False])
def test_a_forecast_that_is_too_low_is_told_before_the_phase_it_will_not_fit(
    per_process: bool,
) -> None:
    plan = make_plan(decode_gib=9.5, steps=6)
    story = MemoryStory(
        plan, steady(1.0), steps=6, forecast_error=0.3, per_process=per_process
    ).play()
    told = story.first
    assert told.prediction.cause is Cause.GROWTH
    assert told.prediction.phase is Phase.DECODE
    assert story.collision_s is not None
    assert told.time_s < story.phase_began_s[Phase.DECODE]
    assert "more of the GPU's memory than planned" in told.prediction.sentence


def test_a_forecast_that_is_too_low_but_fits_is_left_alone() -> None:
    story = MemoryStory(make_plan(), steady(), forecast_error=0.3).play()
    assert story.told == []


def test_a_forecast_that_is_too_high_is_left_alone() -> None:
    story = MemoryStory(make_plan(), stepped(by_gib=3.0, at_s=6.0), forecast_error=-0.3).play()
    assert story.told == []


def test_a_leak_in_another_program_over_a_long_run_is_told_in_time() -> None:
    # 6 MB/s is too slow to be told from noise within ten seconds.
    others = growing(gib_per_s=6 / 1024, from_s=5.0)
    plan = make_plan(steps=300, step_s=2.0)
    story = MemoryStory(plan, others, steps=300, step_s=2.0, interval_s=0.5).play()
    assert story.collision_s is not None
    assert 2.0 <= story.collision_s - story.first.time_s < 60.0


@pytest.mark.parametrize("parts_later", [0, 2])
def test_a_batch_in_parts_needs_the_denoise_again_after_a_decode(parts_later: int) -> None:
    predictor = MemoryPredictor()
    predictor.note(PlanMade(job_id="job", plan=make_plan(images=4, batch=1)))
    for phase in (Phase.LOAD, Phase.ENCODE, Phase.DENOISE, Phase.DECODE):
        predictor.note(PhaseStarted(job_id="job", phase=phase, parts_later=parts_later))
    told = [
        predictor.look(sample(number / 10, gpu=device(used_gib=2.7 + used, engine_gib=2.7)))
        for number in range(20)
        for used in [1.0 if number < 5 else 5.0]
    ]
    predictions = [one for one in told if one is not None]
    # Not where the other images were saved by an earlier engine, or this is the last part.
    assert [one.phase for one in predictions] == ([Phase.DENOISE] if parts_later else [])


# Spill.


def test_memory_that_windows_moves_away_is_told() -> None:
    plan = make_plan()

    def shared(time_s: float) -> float:
        return (0.3 if time_s < 8 else 1.3) * GIB

    story = MemoryStory(plan, stepped(gib=3.5, by_gib=0.4, at_s=7.0), shared=shared).play()
    told = story.first
    assert told.prediction.cause is Cause.SPILL
    assert told.time_s == pytest.approx(8.2, abs=0.15)
    assert told.prediction.device_bytes == GIB
    assert "many times slower" in told.prediction.sentence


def test_pinned_memory_is_no_spill() -> None:
    def shared(time_s: float) -> float:
        return (0.1 if time_s < 6 else 6.0) * GIB

    assert MemoryStory(make_plan(), steady(), shared=shared).play().told == []


def test_what_is_pinned_while_a_model_is_loaded_is_no_spill_on_a_full_gpu() -> None:
    def shared(time_s: float) -> float:
        return min(6.0, 4.0 * time_s) * GIB

    # The text encoder is on the GPU already, and others have nearly all the rest.
    assert MemoryStory(make_plan(), steady(6.0), shared=shared).play().told == []


# RAM.


def test_ram_that_another_program_takes_is_told() -> None:
    def ram(time_s: float) -> HostSnapshot:
        return calm_host(available_gib=20.0 if time_s < 6 else max(0.1, 20 - 4 * (time_s - 6)))

    story = MemoryStory(make_plan(), steady(), host=ram).play()
    told = story.first
    assert told.prediction.cause is Cause.RAM
    assert told.prediction.host_bytes > 0
    assert told.prediction.device_bytes == 0
    assert told.time_s <= 6 + 19 / 4 - 1.0
    assert "RAM runs out" in told.prediction.sentence


def test_our_own_loading_within_the_plan_is_not_another_program_s() -> None:
    def ram(time_s: float) -> HostSnapshot:
        ours = min(6.0, 3 * time_s)
        return calm_host(available_gib=7.0 - ours, engine_gib=ours / 3)

    assert MemoryStory(make_plan(ram_gib=6.0), steady(), host=ram).play().told == []


def test_swapping_is_told() -> None:
    def ram(time_s: float) -> HostSnapshot:
        return calm_host(
            available_gib=20.0 if time_s < 6 else 2.0, swap_gib=max(0.0, 0.3 * (time_s - 6))
        )

    assert MemoryStory(make_plan(), steady(), host=ram).play().first.prediction.cause is Cause.RAM


def test_swap_that_fills_while_ram_is_free_is_the_system_tidying_up() -> None:
    def ram(time_s: float) -> HostSnapshot:
        return calm_host(swap_gib=0.3 * time_s)

    assert MemoryStory(make_plan(), steady(), host=ram).play().told == []


def test_on_the_cpu_ram_is_the_device() -> None:
    predictor = MemoryPredictor()
    predictor.note(
        EngineReady(
            pid=1, device="cpu", device_name="CPU", torch_version="0", diffusers_version="0"
        )
    )
    predictor.note(PlanMade(job_id="job", plan=make_plan(total_gib=32.0, decode_gib=9.5)))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    told = [
        predictor.look(
            sample(
                number / 10,
                computer=host(used_gib=(8.5 if number < 5 else 25.0) + 8.0, engine_gib=8.0),
                # A GPU that has nothing to do with the run.
                gpu=device(used_gib=11.9, total_gib=32.0),
            )
        )
        for number in range(20)
    ]
    predictions = [one for one in told if one is not None]
    assert [one.cause for one in predictions] == [Cause.RAM]
    assert predictions[0].phase is Phase.DECODE
    assert predictions[0].device_bytes == predictions[0].host_bytes > 0


# Samples that do not come as they should.


def crowded(predictor: MemoryPredictor, times_s: list[float]) -> list[Prediction]:
    """What is told when others take too much after the first half of the samples."""
    predictor.note(PlanMade(job_id="job", plan=make_plan(decode_gib=9.0)))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    half = len(times_s) // 2
    told = [
        predictor.look(
            sample(
                time_s,
                gpu=device(used_gib=8.0 + (1.0 if number < half else 3.5), engine_gib=8.0),
            )
        )
        for number, time_s in enumerate(times_s)
    ]
    return [one for one in told if one is not None]


@pytest.mark.parametrize(
    "times_s",
    [
        [number / 10 for number in range(20)],
        [float(number) for number in range(20)],
        [number / 10 for number in range(10)] + [5000 + number / 10 for number in range(10)],
        [1000 - number / 10 for number in range(20)],
        [7.0] * 20,
    ],
    ids=["ten a second", "one a second", "asleep", "backwards", "stuck"],
)
def test_clocks_may_jump(times_s: list[float]) -> None:
    assert [one.cause for one in crowded(MemoryPredictor(), times_s)] == [Cause.OTHERS]


def test_a_gpu_that_does_not_answer_for_a_while_leaves_what_was_known() -> None:
    predictor = MemoryPredictor()
    predictor.note(PlanMade(job_id="job", plan=make_plan(decode_gib=9.0)))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    told: list[Prediction | None] = []
    for number in range(40):
        gpu = device(used_gib=9.0 if number < 10 else 11.5, engine_gib=8.0)
        told.append(predictor.look(sample(number / 10, gpu=None if number % 3 == 0 else gpu)))
    assert sum(one is not None for one in told) == 1


def test_another_gpu_than_the_planned_one_says_nothing() -> None:
    predictor = MemoryPredictor()
    predictor.note(PlanMade(job_id="job", plan=make_plan(decode_gib=9.0)))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    for number in range(20):
        gpu = device(used_gib=1.0 + number, engine_gib=0.0, total_gib=24.0)
        assert predictor.look(sample(number / 10, gpu=gpu)) is None


def test_a_total_that_changes_begins_anew() -> None:
    predictor = MemoryPredictor()
    predictor.note(PlanMade(job_id="job", plan=make_plan(decode_gib=9.0)))
    predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
    for number in range(20):
        # A driver that reserves less after an update of itself counts others' use anew.
        gpu = device(
            used_gib=9.0 if number < 10 else 11.0,
            engine_gib=8.0,
            total_gib=12.0 if number < 10 else 11.9,
        )
        assert predictor.look(sample(number / 10, gpu=gpu)) is None


def test_nothing_is_told_without_a_run() -> None:
    predictor = MemoryPredictor()
    full = sample(0.0, gpu=device(used_gib=12.0))
    assert predictor.look(full) is None
    plan: GenerationPlan = make_plan()
    for end in (
        JobCancelled(job_id="job"),
        EngineStateChanged(state=EngineState.RESTARTING),
        EngineStateChanged(state=EngineState.STOPPED),
    ):
        predictor.note(PlanMade(job_id="job", plan=plan))
        predictor.note(end)
        predictor.note(PhaseStarted(job_id="job", phase=Phase.DENOISE))
        assert [predictor.look(replace(full, time_s=at / 10)) for at in range(9)] == [None] * 9
