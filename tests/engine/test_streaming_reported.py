"""What streamed in a run is in its report and its pictures, beside what was planned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.events import ImageDone, StepDone
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.policy import MemoryMode
from app.core.run_report import PhaseReport
from app.core.streaming import Streaming
from app.core.units import MIB
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, record_of, report_of, simulated

DEMO = Path(resource("models/demo"))
STEPS = 3
COPY_BYTES_PER_S = 1e8


def job(out: Path, mode: MemoryMode, **request: Any) -> Job:
    values = {"width_px": 64, "height_px": 64, "images": 1, "steps": STEPS, "seed": 3, **request}
    made = make_job(DEMO, out, **values)
    return replace(made, policy=replace(POLICY, mode=mode), previews=False)


def run(wanted: Job, *, tflops: float = 1.0) -> list[Any]:
    device = simulated(capacity_bytes=80 * MIB, tflops=tflops, copy_bytes_per_s=COPY_BYTES_PER_S)
    return Runs(device).run(wanted)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Of a run with as few weights on the device as possible."""
    with pytest.MonkeyPatch.context() as patch:
        # It outlives the home of a single test.
        patch.setenv("HEADROOM_HOME", str(tmp_path_factory.mktemp("home")))
        return run(job(tmp_path_factory.mktemp("out"), MemoryMode.MINIMAL))


def phase_of(events: list[Any], phase: Phase) -> PhaseReport:
    return next(one for one in report_of(events).phases if one.phase is phase)


def steps_of(events: list[Any]) -> list[Streaming]:
    return [one.streaming for one in of_kind(events, StepDone) if one.streaming is not None]


def test_waits_are_compared_from_the_second_step_on(events: list[Any]) -> None:
    first, *others = steps_of(events)
    assert len(others) == STEPS - 1
    streamed = phase_of(events, Phase.DENOISE).streamed
    assert streamed is not None
    assert streamed.streaming == sum(others, first)
    assert streamed.steps == STEPS - 1
    assert streamed.waited_s == pytest.approx(sum(one.waited_s for one in others))
    assert streamed.waited_s > 0
    # Both are of the same link and the same blocks; computing is next to nothing.
    assert streamed.planned_waiting_s == pytest.approx(streamed.waited_s, rel=0.05)
    assert streamed.streaming.bytes_per_s == pytest.approx(COPY_BYTES_PER_S)


def test_the_text_encoder_has_no_second_step_to_compare(events: list[Any]) -> None:
    streamed = phase_of(events, Phase.ENCODE).streamed
    assert streamed is not None
    assert streamed.streaming.streamed_bytes > MIB
    assert streamed.steps == 0
    assert phase_of(events, Phase.DECODE).streamed is None


def test_each_part_of_a_batch_begins_with_a_step_that_is_not_compared(tmp_path: Path) -> None:
    wanted = job(tmp_path, MemoryMode.MINIMAL, images=2)
    wanted = replace(wanted, limits=replace(wanted.limits, max_images=1))
    streamed = phase_of(run(wanted), Phase.DENOISE).streamed
    assert streamed is not None
    assert streamed.steps == 2 * (STEPS - 1)
    assert streamed.planned_waiting_s == pytest.approx(streamed.waited_s, rel=0.05)


def test_a_picture_tells_what_streamed_before_it_was_saved(events: list[Any]) -> None:
    record = record_of(of_kind(events, ImageDone)[0])
    [told] = [one for one in record.phases if one.phase is Phase.DENOISE]
    assert told.streamed == phase_of(events, Phase.DENOISE).streamed


def test_what_only_takes_turns_has_not_streamed(tmp_path: Path) -> None:
    events = run(job(tmp_path, MemoryMode.RESIDENT))
    assert [one.streamed for one in report_of(events).phases] == [None] * 5
