"""The predictor on what a monitor would have seen of a GPU, with the plan that was made before.

The traces were recorded from the engine on the simulated device with
`scripts/record_simulated_trace.py`, and say so: there is none of a real GPU yet.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from app.core.device import DeviceSnapshot, HostSnapshot, Sample
from app.core.events import EngineReady, PhaseFinished, PhaseStarted, PlanMade, StepDone
from app.core.jobs import Phase
from app.core.plan import Verdict
from app.core.units import GIB, MIB
from app.monitor.prediction import Prediction
from app.monitor.predictor import MemoryPredictor
from app.monitor.shortage import Cause

FOLDER = Path(__file__).parent / "traces" / "gpu"
KINDS = {kind.__name__: kind for kind in (PlanMade, PhaseStarted, StepDone, PhaseFinished)}
Event = PlanMade | PhaseStarted | StepDone | PhaseFinished
HOST = HostSnapshot(total_bytes=32 * GIB, available_bytes=20 * GIB, engine_rss_bytes=GIB)
"""RAM is not in these traces."""


class Trace(NamedTuple):
    """One recording."""

    total_bytes: int
    events: list[tuple[float, Event]]
    samples: list[tuple[float, int, int]]


class Told(NamedTuple):
    """A prediction and when it came."""

    time_s: float
    prediction: Prediction


def read_trace(name: str) -> Trace:
    data = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert data["recorded"] == "simulated device"
    assert "the clock is virtual" in data["about"]
    events: list[tuple[float, Event]] = []
    for one in data["events"]:
        fields: dict[str, Any] = dict(one)
        kind, time_s = KINDS[fields.pop("event")], fields.pop("time_s")
        events.append((time_s, msgspec.convert(fields, kind)))
    return Trace(data["device_total_bytes"], events, data["samples"])


def replay(trace: Trace, *, per_process: bool) -> list[Told]:
    """What is predicted."""
    predictor = MemoryPredictor()
    predictor.note(
        EngineReady(pid=1, device="cuda:0", device_name="", torch_version="", diffusers_version="")
    )
    entries: list[tuple[float, int, Event | tuple[float, int, int]]] = [
        *((time_s, 0, event) for time_s, event in trace.events),
        *((row[0], 1, row) for row in trace.samples),
    ]
    told: list[Told] = []
    for time_s, _order, entry in sorted(entries, key=lambda one: one[:2]):
        if isinstance(entry, Event):
            predictor.note(entry)
            continue
        _time_s, used_bytes, ours_bytes = entry
        device = DeviceSnapshot(
            index=0,
            name="Simulated GPU",
            total_bytes=trace.total_bytes,
            used_bytes=used_bytes,
            engine_bytes=ours_bytes if per_process else None,
        )
        prediction = predictor.look(Sample(time_s=time_s, host=HOST, device=device))
        if prediction is not None:
            told.append(Told(time_s, prediction))
    return told


def began(trace: Trace, phase: Phase) -> float:
    return next(
        time_s
        for time_s, event in trace.events
        if isinstance(event, PhaseStarted) and event.phase is phase
    )


def plan_of(trace: Trace) -> PlanMade:
    return next(event for _, event in trace.events if isinstance(event, PlanMade))


@pytest.mark.parametrize("name", ["demo_quiet", "demo_game_at_step_3", "demo_leak"])
def test_the_traces_are_of_whole_runs_on_a_busy_gpu(name: str) -> None:
    trace = read_trace(name)
    started = {event.phase for _, event in trace.events if isinstance(event, PhaseStarted)}
    assert started == set(Phase)
    assert plan_of(trace).plan.verdict is Verdict.FITS
    assert len(trace.samples) > 80
    ours = [row[2] for row in trace.samples]
    assert max(ours) - min(ours) > 300 * MIB
    assert any(used - engine > 190 * MIB for _, used, engine in trace.samples)


@pytest.mark.parametrize("per_process", [True, False])
def test_a_run_by_its_plan_is_left_alone(per_process: bool) -> None:
    assert replay(read_trace("demo_quiet"), per_process=per_process) == []


@pytest.mark.parametrize("per_process", [True, False])
def test_a_game_is_told_before_the_decode_it_leaves_no_room_for(per_process: bool) -> None:
    trace = read_trace("demo_game_at_step_3")
    first = replay(trace, per_process=per_process)[0]
    third = next(
        time_s for time_s, event in trace.events if isinstance(event, StepDone) and event.step == 3
    )
    assert third <= first.time_s < third + 2.0
    assert first.prediction.cause is Cause.OTHERS
    assert first.prediction.phase is Phase.DECODE
    assert 0 < first.prediction.device_bytes < 500 * MIB


@pytest.mark.parametrize("per_process", [True, False])
def test_a_leak_is_told_before_it_collides(per_process: bool) -> None:
    trace = read_trace("demo_leak")
    first = replay(trace, per_process=per_process)[0]
    assert first.prediction.cause is Cause.OTHERS
    assert first.time_s < began(trace, Phase.DECODE)


def test_with_the_memory_of_another_gpu_nothing_is_said() -> None:
    trace = read_trace("demo_game_at_step_3")
    assert replay(trace._replace(total_bytes=8 * GIB), per_process=True) == []
