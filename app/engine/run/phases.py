"""A run's phases as they are told and measured."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from app.core.events import EngineMemory, PhaseFinished, PhaseStarted
from app.core.jobs import Phase
from app.core.measured_run import MeasuredPhase
from app.engine.compute_device import ComputeDevice
from app.engine.engine_memory import MemoryMeter


class PhaseLog:
    """Tells of each phase of one job, and remembers how long it took and what it needed.

    A phase that comes several times, as in a batch in parts, is one: its times add up.

    Attributes:
        phase: The present one, or the last.
        seconds: By the phase's value.
        measured: By phase; without those that had nothing to do.
    """

    def __init__(
        self,
        job_id: str,
        *,
        device: ComputeDevice,
        meter: MemoryMeter,
        send: Callable[[Any], None],
        check: Callable[[], None],
        on_end: Callable[[Phase], None] = lambda _phase: None,
        waited_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Begin before the first phase.

        Args:
            job_id: Of the job.
            device: Whose clock counts.
            meter: Reads the memory.
            send: Takes events.
            check: Called before each phase; may raise to stop.
            on_end: Told of each phase that came to its end.
            waited_s: How long nothing was done so far, which belongs to no phase.
        """
        self.phase = Phase.LOAD
        self.seconds: dict[str, float] = {}
        self.measured: dict[Phase, MeasuredPhase] = {}
        self._job_id = job_id
        self._device = device
        self._meter = meter
        self._send = send
        self._check = check
        self._on_end = on_end
        self._waited_s = waited_s
        meter.start_job()

    @contextlib.contextmanager
    def during(
        self, phase: Phase, *, note: str = "", idle: bool = False, parts_later: int = 0
    ) -> Generator[None]:
        """Around a phase.

        Args:
            phase: Which.
            note: What is special, for `PhaseStarted`.
            idle: Whether it has nothing to do, so that its figures say nothing.
            parts_later: For `PhaseStarted`.
        """
        self._check()
        self.phase = phase
        self._send(
            PhaseStarted(job_id=self._job_id, phase=phase, note=note, parts_later=parts_later)
        )
        self._meter.start_phase()
        began_s = self._now_s()
        yield
        self._device.synchronize()
        seconds = self._now_s() - began_s
        self.seconds[phase.value] = self.seconds.get(phase.value, 0.0) + seconds
        self._on_end(phase)
        if not idle:
            self._note(phase, seconds, self._meter.phase_peak_bytes())
        self._send(
            PhaseFinished(job_id=self._job_id, phase=phase, seconds=seconds, memory=self.memory())
        )

    def memory(self) -> EngineMemory:
        """Held now, and at most so far."""
        return self._meter.measure()

    def _now_s(self) -> float:
        return self._device.clock_s() - self._waited_s()

    def _note(self, phase: Phase, seconds: float, peak_bytes: int) -> None:
        before = self.measured.get(phase, MeasuredPhase(seconds=0.0, peak_bytes=0))
        self.measured[phase] = replace(
            before,
            seconds=(before.seconds or 0.0) + seconds,
            peak_bytes=max(before.peak_bytes or 0, peak_bytes),
        )
