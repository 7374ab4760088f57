"""The predictor on what the monitor really saw of runs that went well: it has nothing to say.

The traces were recorded with `scripts/record_memory_trace.py`; `recorded` in a file says that no
figure in it was made up. There is none of a GPU yet.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.device import HostSnapshot, Sample
from app.core.events import (
    EngineReady,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    StepDone,
)
from app.core.jobs import Phase
from app.core.plan import GenerationPlan, PhasePlan
from app.monitor.prediction import Prediction
from app.monitor.predictor import MemoryPredictor
from app.monitor.shortage import Cause
from tests.fakes import plans
from tests.fakes.engine_memory import engine_memory

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json"))
MEMORY = engine_memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One recording, samples and events in the order of their times."""

    total_bytes: int
    entries: tuple[tuple[float, Sample | dict[str, Any]], ...]

    @property
    def samples(self) -> list[Sample]:
        return [entry for _, entry in self.entries if isinstance(entry, Sample)]


def read_trace(path: Path) -> Trace:
    data = json.loads(path.read_text("utf-8"))
    assert data["recorded"] is True
    total_bytes = data["host_total_bytes"]
    samples = [
        Sample(
            time_s=time_s,
            host=HostSnapshot(
                total_bytes=total_bytes,
                available_bytes=available,
                engine_rss_bytes=rss,
                swap_used_bytes=swap,
            ),
        )
        for time_s, available, rss, swap, *_gpu in data["samples"]
    ]
    entries: list[tuple[float, Sample | dict[str, Any]]] = [(one.time_s, one) for one in samples]
    entries += [(event["time_s"], event) for event in data["events"]]
    return Trace(
        total_bytes=total_bytes, entries=tuple(sorted(entries, key=lambda entry: entry[0]))
    )


def plan_of(trace: Trace, *, share: float) -> GenerationPlan:
    """A plan that foresees this share of what the engine came to use in each phase."""
    peaks: dict[Phase, int] = dict.fromkeys(Phase, 0)
    phase = Phase.LOAD
    for _, entry in trace.entries:
        if isinstance(entry, Sample):
            peaks[phase] = max(peaks[phase], entry.host.engine_rss_bytes or 0)
        elif entry["event"] == "phase" and entry["state"] == "started":
            phase = Phase(entry["phase"])
    phases = tuple(
        PhasePlan(
            phase=one,
            weights_bytes=0,
            working_bytes=int(peak * share),
            uncertainty_bytes=peak // 10,
            seconds=5.0,
        )
        for one, peak in peaks.items()
    )
    return plans.plan(
        components=(),
        phases=phases,
        budget_bytes=trace.total_bytes // 2,
        total_bytes=trace.total_bytes,
        ram_peak_bytes=max(peaks.values()),
        ram_budget_bytes=trace.total_bytes // 2,
    )


def replay(
    trace: Trace, plan: GenerationPlan, *, device: str, took_bytes: int = 0
) -> list[Prediction]:
    """What is predicted; `took_bytes` is what another program is made to take while denoising."""
    predictor = MemoryPredictor()
    predictor.note(
        EngineReady(pid=1, device=device, device_name="", torch_version="", diffusers_version="")
    )
    told: list[Prediction] = []
    began = False
    step_at_s: float | None = None
    for time_s, entry in trace.entries:
        if isinstance(entry, Sample):
            host = entry.host
            if step_at_s is not None:
                left = max(0, host.available_bytes - took_bytes)
                host = HostSnapshot(
                    total_bytes=host.total_bytes,
                    available_bytes=left,
                    engine_rss_bytes=host.engine_rss_bytes,
                    swap_used_bytes=host.swap_used_bytes,
                )
            prediction = predictor.look(Sample(time_s=time_s, host=host))
            if prediction is not None:
                told.append(prediction)
        elif entry["event"] == "step":
            seconds = 0.0 if step_at_s is None else time_s - step_at_s
            step_at_s = time_s
            predictor.note(
                StepDone(
                    job_id="job",
                    step=entry["step"],
                    steps=entry["steps"],
                    seconds=seconds,
                    memory=MEMORY,
                )
            )
        else:
            if not began:
                began = True
                predictor.note(PlanMade(job_id="job", plan=plan))
            phase = Phase(entry["phase"])
            predictor.note(
                PhaseStarted(job_id="job", phase=phase)
                if entry["state"] == "started"
                else PhaseFinished(job_id="job", phase=phase, seconds=0.0, memory=MEMORY)
            )
    return told


@pytest.fixture(params=TRACES, ids=lambda path: path.stem)
def trace(request: pytest.FixtureRequest) -> Trace:
    return read_trace(request.param)


def test_there_are_traces_of_whole_runs(trace: Trace) -> None:
    phases = [
        entry["phase"]
        for _, entry in trace.entries
        if not isinstance(entry, Sample) and entry["event"] == "phase"
    ]
    assert set(phases) == {phase.value for phase in Phase}
    assert len(trace.samples) > 100


@pytest.mark.parametrize("share", [1.0, 0.8, 1.2])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_run_that_went_well_is_left_alone(trace: Trace, device: str, share: float) -> None:
    assert replay(trace, plan_of(trace, share=share), device=device) == []


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_same_run_with_too_little_left_is_told(trace: Trace, device: str) -> None:
    least = min(sample.host.available_bytes for sample in trace.samples)
    told = replay(trace, plan_of(trace, share=1.0), device=device, took_bytes=least)
    assert [one.cause for one in told] in ([Cause.RAM], [Cause.RAM] * 2)
