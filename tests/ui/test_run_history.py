"""Time that is left: from the run's own steps and from runs of the same shape."""

import pytest

from app.core.jobs import Phase
from app.core.streaming import Streaming
from app.ui.models.run_history import RECENT_STEPS, RunHistory
from tests.ui.run_events import job


def test_nothing_is_told_before_anything_is_known():
    history = RunHistory()
    assert history.seconds_per_step() is None
    history.start(job())
    assert history.remaining_s(Phase.DENOISE, step=0, steps=8) is None
    assert history.remaining_s(Phase.LOAD, step=0, steps=8) is None
    assert history.remaining_s(Phase.DECODE, step=8, steps=8) is None


def test_remaining_is_the_mean_of_recent_steps_times_those_left():
    history = RunHistory()
    history.start(job())
    history.add_step(1.0)
    history.add_step(3.0)
    assert history.seconds_per_step() == 2.0
    assert history.remaining_s(Phase.DENOISE, step=2, steps=8) == 12.0


def test_a_slow_first_step_is_forgotten():
    history = RunHistory()
    history.start(job())
    history.add_step(100.0)
    for _ in range(RECENT_STEPS):
        history.add_step(1.0)
    assert history.seconds_per_step() == 1.0


def test_decode_and_save_of_the_last_run_are_added():
    history = RunHistory()
    history.start(job())
    history.add_step(1.0)
    history.add_phase(Phase.DECODE, 5.0)
    history.add_phase(Phase.SAVE, 0.5)
    history.start(job("b"))
    assert history.remaining_s(Phase.DENOISE, step=0, steps=8) == 13.5
    assert history.remaining_s(Phase.DECODE, step=8, steps=8) == 5.5
    assert history.remaining_s(Phase.SAVE, step=8, steps=8) == 0.5


def test_encode_counts_only_while_encoding():
    history = RunHistory()
    history.start(job())
    history.add_phase(Phase.ENCODE, 3.0)
    history.add_step(1.0)
    history.start(job("b"))
    assert history.remaining_s(Phase.ENCODE, step=0, steps=8) == 11.0
    assert history.remaining_s(Phase.DENOISE, step=0, steps=8) == 8.0


def test_decode_of_another_size_is_scaled_by_pixels():
    history = RunHistory()
    history.start(job(width_px=128, height_px=128))
    history.add_phase(Phase.DECODE, 1.0)
    history.start(job("b", width_px=256, height_px=128, images=2))
    assert history.remaining_s(Phase.DECODE, step=8, steps=8) == pytest.approx(4.0)


def test_speed_of_another_size_or_model_is_not_guessed():
    history = RunHistory()
    history.start(job())
    history.add_step(1.0)
    history.add_phase(Phase.DECODE, 1.0)
    history.start(job("b", width_px=256))
    assert history.seconds_per_step() is None
    history.start(job("c", model_folder="/models/klein"))
    assert history.seconds_per_step() is None
    assert history.remaining_s(Phase.DECODE, step=8, steps=8) is None


def test_streaming_is_of_the_newest_steps_together_and_ends_with_it():
    history = RunHistory()
    history.start(job())
    assert history.streaming() is None
    for _ in range(RECENT_STEPS + 2):
        history.add_step(1.0, Streaming(streamed_bytes=10, copying_s=0.5, waited_s=0.125))
    assert history.streaming() == Streaming(
        streamed_bytes=10 * RECENT_STEPS, copying_s=0.5 * RECENT_STEPS, waited_s=0.625
    )
    history.add_step(1.0)
    assert history.streaming() is None
    history.add_step(1.0, Streaming(streamed_bytes=10, copying_s=0.5, waited_s=0.0))
    history.start(job())
    assert history.streaming() is None
