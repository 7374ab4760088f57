"""What is foreseen and done, in words."""

import pytest

from app.core.events import (
    Downshifted,
    ImagesDeferred,
    RunResumed,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Phase
from app.core.plan import Rung
from app.core.units import GIB
from app.monitor.alerts import (
    deferred_sentence,
    downshift_sentence,
    plan_sentence,
    resumed_sentence,
    shortage_sentence,
    waited_sentence,
    waiting_sentence,
)
from app.monitor.shortage import Cause, Shortage
from tests.fakes.memory_story import make_plan


@pytest.mark.parametrize(
    ("cause", "growing", "in_s", "sentence"),
    [
        (
            Cause.OTHERS,
            False,
            12.0,
            "Another program took 2.0 GB of the GPU's memory: decoding would be 1.0 GB short.",
        ),
        (
            Cause.OTHERS,
            True,
            12.4,
            "Another program took 2.0 GB of the GPU's memory, and it goes on: "
            "decoding would run out of memory in about 12 s.",
        ),
        (
            Cause.GROWTH,
            True,
            0.2,
            "This run uses 2.0 GB more of the GPU's memory than planned, and it goes on: "
            "decoding would run out of memory in about 1 s.",
        ),
        (
            Cause.SPILL,
            False,
            0.0,
            "Windows moved 2.0 GB of the GPU's memory into RAM, because the GPU is full: "
            "decoding becomes many times slower.",
        ),
        (Cause.RAM, False, 0.0, "The computer's RAM runs out: decoding would be 1.0 GB short."),
    ],
)
def test_a_shortage_is_a_sentence(cause: Cause, growing: bool, in_s: float, sentence: str) -> None:
    shortage = Shortage(
        cause=cause,
        phase=Phase.DECODE,
        short_bytes=GIB,
        in_s=in_s,
        took_bytes=2 * GIB,
        growing=growing,
    )
    assert shortage_sentence(shortage) == sentence


@pytest.mark.parametrize("rung", list(Rung))
def test_every_rung_has_its_words(rung: Rung) -> None:
    event = Downshifted(
        job_id="a",
        phase=Phase.DECODE,
        step=3,
        rung=rung,
        before="before",
        after="after",
        reason="Because.",
        foreseen=True,
    )
    sentence = downshift_sentence(event)
    assert sentence.endswith("(before → after). Because.")
    assert sentence[0].isupper()


def test_put_off_and_resumed() -> None:
    one = ImagesDeferred(job_id="a", first_index=1, images=1, reason="Because.")
    many = ImagesDeferred(job_id="a", first_index=1, images=3, reason="Because.")
    assert deferred_sentence(one).startswith("1 image is made afterwards")
    assert deferred_sentence(many).startswith("3 images are made afterwards")
    assert "after step 19 of 28" in resumed_sentence(RunResumed(job_id="a", step=19, steps=28))


def test_a_plan_is_one_line() -> None:
    line = plan_sentence(make_plan(images=4, batch=2))
    assert line == ("fits: 4 image(s) of 1024x1024, peak 8.0 GB of 10.5 GB, about 13 s, 2 at once")


def test_waiting_is_told_with_who_has_the_memory() -> None:
    waiting = WaitingForMemory(
        job_id="a", phase=Phase.LOAD, missing_bytes=6 * GIB // 5, others_bytes=5 * GIB, left_s=60
    )
    sentence = "Waiting for 1.2 GB of GPU memory: other programs hold 5.0 GB"
    assert waiting_sentence(waiting) == sentence
    came = WaitedForMemory(job_id="a", seconds=8.0, enough=True)
    assert waited_sentence(came) == "GPU memory is free again after 8.00 s: the run goes on."
    in_vain = WaitedForMemory(job_id="a", seconds=60.0, enough=False)
    assert waited_sentence(in_vain) == "GPU memory did not become free within 1 min 00 s."
