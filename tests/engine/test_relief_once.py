"""Nothing flaps: less is given once in a phase, and again only when memory fell further."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.events import Downshifted, JobFinished, StepDone
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.units import MIB
from app.engine.simulated_story import Moment, OtherUse
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, simulated, strict

CAPACITY_BYTES = 200 * MIB
STEPS = 6


def job(out: Path) -> Job:
    made = make_job(resource("models/demo"), out, steps=STEPS)
    return strict(replace(made, policy=POLICY, previews=False))


def steps_of_rungs(out: Path, *others: OtherUse) -> list[int]:
    """At which steps of the denoise something gave way, when less is asked for after each."""
    runs = Runs(simulated(capacity_bytes=CAPACITY_BYTES, others=others))

    def ask(event: Any) -> None:
        if isinstance(event, StepDone):
            runs.relief.ask(4 * MIB, 0, "Another program took memory.")

    runs.on_event = ask
    events = runs.run(job(out))
    assert isinstance(events[-1], JobFinished), events[-1]
    rungs = [one for one in of_kind(events, Downshifted) if one.phase is Phase.DENOISE]
    assert all(one.foreseen for one in rungs)
    return sorted({one.step for one in rungs})


def test_less_is_given_once_in_a_phase_however_often_it_is_asked_for(tmp_path: Path):
    assert steps_of_rungs(tmp_path) == [1]


@pytest.mark.parametrize(("fell_bytes", "steps"), [(8 * MIB, [1, 3]), (MIB // 4, [1])])
def test_it_is_given_again_when_memory_fell_further(
    fell_bytes: int, steps: list[int], tmp_path: Path
):
    fall = OtherUse(at=Moment(phase=Phase.DENOISE, step=3), bytes=fell_bytes)
    assert steps_of_rungs(tmp_path, fall) == steps
