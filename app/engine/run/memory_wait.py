"""Holding still while other programs have the device's memory: often they give it back soon."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.core.events import WaitedForMemory, WaitingForMemory
from app.core.jobs import Job, Phase
from app.core.units import format_seconds
from app.engine.cancel import CancelFlag
from app.engine.compute_device import ComputeDevice
from app.engine.simulated_device import SimulatedDevice

LOOK_EVERY_S = 0.5
"""To ask a driver how much is free takes well below a thousandth of that."""
TOLD_EVERY_S = 5.0
"""What others hold changes all the time, and each word of it is a line in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What is not free.

    Attributes:
        missing_bytes: That a run needs more than it could have now; 0 or less when it can begin.
        others_bytes: That other programs hold.
    """

    missing_bytes: int
    others_bytes: int


class MemoryWait:
    """What one job may wait, and has waited.

    What is waited in one phase is counted together as long as nothing gets on. Waiting in vain is
    done once in a phase: memory that is not there in a minute is not there in the next either.

    Attributes:
        waited_s: In all; no part of what any phase took.
    """

    def __init__(
        self, job: Job, device: ComputeDevice, cancel: CancelFlag, *, send: Callable[[Any], None]
    ) -> None:
        """Begin with all of the job's patience.

        Args:
            job: That waits.
            device: Whose memory is waited for, and whose clock counts.
            cancel: Ends the waiting.
            send: Takes events.
        """
        self.waited_s = 0.0
        self._job = job
        self._device = device
        self._cancel = cancel
        self._send = send
        self._left_s = job.wait_s

    @property
    def may_wait(self) -> bool:
        """Whether there is patience left; none of it for the CPU, whose memory is all programs'."""
        return self._left_s > 0 and self._device.kind != "cpu"

    def begin_phase(self) -> None:
        """Another phase: with all of the patience again."""
        self._left_s = self._job.wait_s

    def note_progress(self) -> None:
        """Something was finished: what was waited for it counts no more, unless in vain."""
        if self._left_s > 0:
            self._left_s = self._job.wait_s

    def wait(self, phase: Phase, look: Callable[[], Shortfall]) -> bool:
        """Hold still until there is enough, or patience ends; nothing is on the device meanwhile.

        Args:
            phase: That cannot go on.
            look: Tells what is not free now.

        Returns:
            Whether there is enough.

        Raises:
            CancelRequestedError: The job is to stop.
        """
        began_s = self._device.clock_s()
        ends_s = began_s + self._left_s
        tell_at_s = began_s
        while True:
            now_s = self._device.clock_s()
            found = look()
            enough = found.missing_bytes <= 0
            if enough or now_s >= ends_s:
                break
            if now_s >= tell_at_s:
                self._tell(phase, found, left_s=ends_s - now_s)
                tell_at_s = now_s + TOLD_EVERY_S
            self._pause(min(LOOK_EVERY_S, ends_s - now_s))
        seconds = now_s - began_s
        self.waited_s += seconds
        self._left_s = max(0.0, ends_s - now_s) if enough else 0.0
        if tell_at_s > began_s:
            self._send(WaitedForMemory(job_id=self._job.id, seconds=seconds, enough=enough))
        return enough

    def _tell(self, phase: Phase, found: Shortfall, *, left_s: float) -> None:
        self._send(
            WaitingForMemory(
                job_id=self._job.id,
                phase=phase,
                missing_bytes=found.missing_bytes,
                others_bytes=found.others_bytes,
                left_s=left_s,
            )
        )

    def _pause(self, seconds: float) -> None:
        device = self._device
        if isinstance(device, SimulatedDevice):
            # Its clock is virtual, and goes on only when it is told.
            device.let_pass(seconds)
            seconds = seconds if device.story.pauses_are_real else 0.0
        self._cancel.pause(seconds)


def waited_in_vain_sentence(seconds: float) -> str:
    """What is said beside what is missing."""
    return f"Headroom waited {format_seconds(seconds)} for other programs to free memory."
