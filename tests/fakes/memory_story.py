"""A run by its plan, with another program beside it: what the monitor and the engine would say."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from app.core.device import DeviceSnapshot, HostSnapshot, Sample
from app.core.events import EngineMemory, PhaseFinished, PhaseStarted, PlanMade, StepDone
from app.core.jobs import Phase
from app.core.plan import GenerationPlan, PhasePlan
from app.core.units import GIB
from app.engine.client import EngineMessage
from app.monitor.prediction import Prediction
from app.monitor.predictor import MemoryPredictor
from tests.fakes import plans
from tests.fakes.engine_memory import engine_memory

INTERVAL_S = 0.1
RAMP_S = 0.3
"""A phase reaches its peak within this time."""

Others = Callable[[float], float]
"""Bytes that other programs use at a time."""


def phase_plan(
    phase: Phase, *, weights_gib: float, working_gib: float, seconds: float
) -> PhasePlan:
    return PhasePlan(
        phase=phase,
        weights_bytes=round(weights_gib * GIB),
        working_bytes=round(working_gib * GIB),
        overhead_bytes=round(0.5 * GIB),
        uncertainty_bytes=round(0.2 * GIB),
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds,
    )


def make_plan(
    *,
    total_gib: float = 12.0,
    steps: int = 8,
    step_s: float = 1.0,
    decode_gib: float = 2.0,
    decode_s: float = 2.0,
    images: int = 1,
    batch: int | None = None,
    ram_gib: float = 6.0,
) -> GenerationPlan:
    """A 4B model on a card of 12 GiB: denoise needs 8 GiB, decode 0.7 more than `decode_gib`."""
    return plans.plan(
        images=images,
        batch=batch or images,
        components=(),
        phases=(
            phase_plan(Phase.LOAD, weights_gib=5.0, working_gib=0.0, seconds=2.0),
            phase_plan(Phase.ENCODE, weights_gib=5.0, working_gib=0.5, seconds=1.0),
            phase_plan(Phase.DENOISE, weights_gib=7.0, working_gib=0.5, seconds=steps * step_s),
            phase_plan(Phase.DECODE, weights_gib=0.2, working_gib=decode_gib, seconds=decode_s),
            phase_plan(Phase.SAVE, weights_gib=0.2, working_gib=0.0, seconds=0.3),
        ),
        budget_bytes=round((total_gib - 1.5) * GIB),
        total_bytes=round(total_gib * GIB),
        ram_peak_bytes=round(ram_gib * GIB),
        ram_budget_bytes=round(20 * GIB),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A prediction, and where the run was then."""

    time_s: float
    phase: Phase
    step: int
    prediction: Prediction


class Listener(Protocol):
    """Who is told of the run: a predictor, or a conductor that has one."""

    def note(self, event: EngineMessage) -> None: ...

    def look(self, sample: Sample) -> Prediction | None: ...


class MemoryStory:
    """Plays a run to the predictor, ten samples a second.

    Attributes:
        told: What the predictor said.
        collision_s: When ours and others' first exceeded the device; None when they never did.
    """

    def __init__(
        self,
        plan: GenerationPlan,
        others: Others,
        *,
        steps: int = 8,
        step_s: float = 1.0,
        forecast_error: float = 0.0,
        per_process: bool = True,
        shared: Others | None = None,
        host: Callable[[float], HostSnapshot] | None = None,
        interval_s: float = INTERVAL_S,
        replanned: Callable[[Prediction], GenerationPlan | None] = lambda _: None,
        listener: Listener | None = None,
        held_gib: float = 0.0,
    ) -> None:
        self.plan = plan
        self.told: list[Told] = []
        self.collision_s: float | None = None
        self.phase_began_s: dict[Phase, float] = {}
        self.time_s = 0.0
        self._others = others
        self._steps = steps
        self._step_s = step_s
        self._error = 1 + forecast_error
        self._per_process = per_process
        self._shared = shared
        self._host = host or (lambda _: calm_host())
        self._interval_s = interval_s
        self._replanned = replanned
        self._listener: Listener = listener or MemoryPredictor()
        # By the engine, from a run before.
        self._ours = held_gib * GIB
        self._phase = Phase.LOAD
        self._step = 0

    def play(self) -> "MemoryStory":
        note = self._listener.note
        note(PlanMade(job_id="job", plan=self.plan))
        for phase in Phase:
            self._phase, began_s = phase, self.time_s
            self.phase_began_s[phase] = began_s
            note(PhaseStarted(job_id="job", phase=phase))
            if phase is Phase.DENOISE:
                for step in range(1, self._steps + 1):
                    self._pass_time(began_s, began_s + step * self._step_s)
                    self._step = step
                    note(
                        StepDone(
                            job_id="job",
                            step=step,
                            steps=self._steps,
                            seconds=self._step_s,
                            memory=self._report(),
                        )
                    )
            else:
                self._pass_time(began_s, began_s + self.plan.phase(phase).seconds)
            seconds = self.time_s - began_s
            note(PhaseFinished(job_id="job", phase=phase, seconds=seconds, memory=self._report()))
        return self

    @property
    def first(self) -> Told:
        assert self.told, "nothing was predicted"
        return self.told[0]

    def _pass_time(self, began_s: float, until_s: float) -> None:
        former = self._ours
        while self.time_s < until_s - 1e-9:
            planned = self.plan.phase(self._phase)
            peak = planned.weights_bytes + self._error * (
                planned.working_bytes + planned.overhead_bytes
            )
            share = min(1.0, (self.time_s - began_s) / RAMP_S)
            self._ours = former + (peak - former) * share
            prediction = self._listener.look(self._sample())
            if prediction is not None:
                self.told.append(
                    Told(
                        time_s=self.time_s,
                        phase=self._phase,
                        step=self._step,
                        prediction=prediction,
                    )
                )
                plan = self._replanned(prediction)
                if plan is not None:
                    self.plan = plan
                    self._listener.note(PlanMade(job_id="job", plan=plan))
            self.time_s = round(self.time_s + self._interval_s, 6)

    def _sample(self) -> Sample:
        others = self._others(self.time_s)
        total = self.plan.total_bytes
        if others + self._ours > total and self.collision_s is None:
            self.collision_s = self.time_s
        return Sample(
            time_s=self.time_s,
            host=self._host(self.time_s),
            device=DeviceSnapshot(
                index=0,
                name="Fake GPU",
                total_bytes=total,
                used_bytes=min(total, round(others + self._ours)),
                engine_bytes=round(self._ours) if self._per_process else None,
                shared_bytes=None if self._shared is None else round(self._shared(self.time_s)),
            ),
        )

    def _report(self) -> EngineMemory:
        # What torch knows of: tensors, not the context and workspaces.
        reserved = max(0, round(self._ours) - self.plan.phase(self._phase).overhead_bytes)
        return engine_memory(reserved)


def calm_host(
    *, available_gib: float = 20.0, engine_gib: float = 4.0, swap_gib: float = 0.0
) -> HostSnapshot:
    return HostSnapshot(
        total_bytes=32 * GIB,
        available_bytes=round(available_gib * GIB),
        engine_rss_bytes=round(engine_gib * GIB),
        swap_used_bytes=round(swap_gib * GIB),
        swap_total_bytes=8 * GIB,
    )


def steady(gib: float = 1.0) -> Others:
    return lambda _: gib * GIB


def stepped(*, gib: float = 1.0, by_gib: float, at_s: float) -> Others:
    """All at once: a program starts with what it needs."""
    return lambda time_s: (gib + (by_gib if time_s >= at_s else 0.0)) * GIB


def growing(
    *, gib: float = 1.0, gib_per_s: float, from_s: float, to_gib: float = math.inf
) -> Others:
    return lambda time_s: min(to_gib, gib + gib_per_s * max(0.0, time_s - from_s)) * GIB


def noisy(others: Others, noise_bytes: Iterator[float]) -> Others:
    return lambda time_s: others(time_s) + next(noise_bytes)


def with_phase(plan: GenerationPlan, changed: PhasePlan) -> GenerationPlan:
    """The plan with one phase's figures changed."""
    phases = tuple(changed if one.phase is changed.phase else one for one in plan.phases)
    return replace(plan, phases=phases)
