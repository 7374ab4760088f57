"""Progress in words."""

from dataclasses import replace

import pytest

from app.core.events import Converting, Loading, WaitingForMemory
from app.core.jobs import Phase
from app.core.policy import Precision
from app.core.streaming import Streaming
from app.core.units import GIB
from app.ui.models.progress_text import countable_seconds, progress_text
from app.ui.models.run_progress import RunProgress
from tests.ui.run_events import job

DENOISING = RunProgress(
    job=job(),
    phase=Phase.DENOISE,
    note="",
    step=2,
    steps=8,
    seconds_per_step=0.5,
    remaining_s=3.2,
    elapsed_s=4.9,
    cancelling=False,
)


def test_denoising_is_counted_in_steps():
    text = progress_text(DENOISING)
    assert text.phase == "Drawing"
    assert text.step == "Step 2 of 8"
    assert text.rate == "2.0 it/s"
    assert text.remaining == "about 4 s left"
    assert text.elapsed == "4 s"
    assert text.fraction == 0.25


def test_slow_steps_are_told_in_seconds_each():
    assert progress_text(replace(DENOISING, seconds_per_step=2.5)).rate == "2.5 s/it"


def test_speed_of_an_earlier_run_is_not_told_as_this_one_s():
    assert progress_text(replace(DENOISING, step=0)).rate == ""


def test_loading_names_the_model_and_counts_nothing():
    progress = replace(
        DENOISING,
        job=job(model="/models/FLUX.2-klein-4B/"),
        phase=Phase.LOAD,
        remaining_s=None,
    )
    text = progress_text(progress)
    assert text.phase == "Loading the model FLUX.2-klein-4B"
    assert (text.step, text.rate, text.remaining, text.fraction) == ("", "", "", None)


@pytest.mark.parametrize("phase", [None, *Phase])
def test_every_phase_has_words_of_its_own(phase: Phase | None):
    words = {one: progress_text(replace(DENOISING, phase=one)).phase for one in (None, *Phase)}
    assert words[phase]
    assert list(words.values()).count(words[phase]) == 1


def test_cancelling_is_said_and_no_time_promised():
    text = progress_text(replace(DENOISING, cancelling=True))
    assert text.phase == "Cancelling"
    assert text.remaining == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (9.9, "9 s"), (12.3, "12 s"), (185, "3 min 05 s")]
)
def test_times_told_every_moment_are_whole(seconds: float, text: str):
    assert countable_seconds(seconds) == text


def test_less_than_a_second_is_said_so():
    assert progress_text(replace(DENOISING, remaining_s=0.3)).remaining == "under 1 s left"


CONVERTING = Converting(
    job_id="a",
    component="transformer",
    precision=Precision.NF4,
    done_bytes=3 * GIB,
    total_bytes=4 * GIB,
)


def test_quantizing_says_that_it_is_done_once_and_how_far():
    text = progress_text(replace(DENOISING, phase=Phase.LOAD, converting=CONVERTING))
    assert text.phase == "Converting the transformer to 4 bits, once"
    assert text.fraction == 0.75
    encoder = replace(CONVERTING, component="text_encoder", precision=Precision.FP8)
    text = progress_text(replace(DENOISING, phase=Phase.LOAD, converting=encoder))
    assert text.phase == "Converting the text encoder to fp8, once"
    assert text.step == "3.0 of 4.0 GB"


def test_time_left_of_converting_is_never_that_of_earlier_runs():
    converting = replace(DENOISING, phase=Phase.LOAD, converting=CONVERTING)
    assert progress_text(converting).remaining == ""
    told = progress_text(replace(converting, bytes_left_s=61.2)).remaining
    assert told == "about 1 min 02 s of converting left"


LOADING = Loading(job_id="a", done_bytes=3 * GIB, total_bytes=12 * GIB)


def test_loading_says_how_much_of_the_model_is_there_and_how_long_the_rest_takes():
    loading = replace(DENOISING, phase=Phase.LOAD, loading=LOADING, remaining_s=None)
    text = progress_text(loading)
    assert (text.phase, text.step) == ("Loading the model demo", "3.0 of 12.0 GB")
    assert (text.fraction, text.remaining, text.rate) == (0.25, "", "")
    text = progress_text(replace(loading, bytes_left_s=8.4))
    assert text.remaining == "about 9 s of loading left"
    assert progress_text(replace(loading, bytes_left_s=8.4, cancelling=True)).remaining == ""
    # Earlier runs say when the picture is there, which is what one waits for.
    text = progress_text(replace(loading, bytes_left_s=8.4, remaining_s=20.0))
    assert text.remaining == "about 20 s left"


STREAMING = Streaming(streamed_bytes=round(2.36 * GIB), copying_s=0.2, waited_s=0.003)


def test_streaming_says_its_rate_and_how_much_was_hidden():
    text = progress_text(replace(DENOISING, streaming=STREAMING))
    assert text.streaming == "11.8 GB/s, 98 % hidden"
    assert "2.4 GB in the last steps" in text.streaming_tip
    assert "0.00 s of the 0.20 s" in text.streaming_tip


def test_nothing_is_said_of_streaming_where_nothing_streams():
    assert progress_text(DENOISING).streaming == ""
    nothing = Streaming(streamed_bytes=0, copying_s=0.0, waited_s=0.0)
    assert progress_text(replace(DENOISING, streaming=nothing)).streaming == ""


WAITING = WaitingForMemory(
    job_id="a", phase=Phase.DENOISE, missing_bytes=GIB, others_bytes=5 * GIB, left_s=60.0
)


def test_waiting_for_memory_says_how_much_who_has_it_and_how_long():
    running = replace(DENOISING, streaming=STREAMING)
    text = progress_text(replace(running, waiting=WAITING, waiting_left_s=47.2))
    assert text.phase == "Waiting for 1.0 GB of GPU memory"
    assert text.step == "others hold 5.0 GB"
    assert text.remaining == "for 48 s at most"
    # It is where it was, and nothing moves.
    assert text.fraction == 0.25
    assert (text.rate, text.streaming, text.streaming_tip) == ("", "", "")


def test_who_cancels_waits_for_nothing():
    text = progress_text(replace(DENOISING, waiting=WAITING, cancelling=True))
    assert (text.phase, text.remaining) == ("Cancelling", "")
