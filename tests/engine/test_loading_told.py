"""Reading a model is told in bytes of what the plan says is to be read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.events import JobFinished, Loading, PhaseFinished
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.units import GIB
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Story
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind


class SlowCpu(CpuDevice):
    """Its clock says that each look at it comes a third of a second after the one before."""

    now_s = 0.0

    def clock_s(self) -> float:
        self.now_s += 0.3
        return self.now_s


class SlowSimulated(SimulatedDevice):
    """The same in front of a device with memory of its own."""

    late_s = 0.0

    def clock_s(self) -> float:
        self.late_s += 0.3
        return super().clock_s() + self.late_s


def job(folder: Path) -> Job:
    made = make_job(resource("models/demo"), folder, prompt="a red ring", steps=1)
    return replace(made, policy=POLICY)


def loading(events: list[Any]) -> list[Loading]:
    finished = next(
        index
        for index, event in enumerate(events)
        if isinstance(event, PhaseFinished) and event.phase is Phase.LOAD
    )
    assert of_kind(events[finished:], Loading) == []
    return of_kind(events, Loading)


@pytest.mark.parametrize("device", [SlowCpu(), SlowSimulated(Story(capacity_bytes=GIB))])
def test_reading_is_told_to_its_end(device: ComputeDevice, tmp_path: Path):
    runs = Runs(device)
    events = runs.run(job(tmp_path))
    assert isinstance(events[-1], JobFinished), events[-1]
    told = loading(events)
    assert len(told) > 3
    done = [one.done_bytes for one in told]
    assert done == sorted(done)
    (total,) = {one.total_bytes for one in told}
    assert done[-1] == total > done[0]
    # The plan's figure is what is really read: the bar does not stand still at its end, nor jump.
    assert 0.9 * total < done[-2] < total
    # A model that is there is not read again.
    assert of_kind(runs.run(job(tmp_path)), Loading) == []


def test_what_is_read_at_once_is_not_worth_a_bar(tmp_path: Path):
    class StillCpu(CpuDevice):
        def clock_s(self) -> float:
            return 0.0

    assert of_kind(Runs(StillCpu()).run(job(tmp_path)), Loading) == []
