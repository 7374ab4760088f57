"""What the window asks of whoever runs the jobs."""

from typing import Protocol

from app.core.jobs import Job
from app.core.policy import Budget
from app.engine.protocol import Calibrate


class JobControl(Protocol):
    """What the window may ask of the conductor; every call returns at once, from any thread."""

    def submit(self, job: Job, *, front: bool = False) -> None:
        """Queue a job, last or next."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop a running job, take back a queued one."""
        ...

    def remove(self, job_id: str) -> None:
        """Take a job off the list; a running one is cancelled first."""
        ...

    def move(self, job_id: str, to_index: int) -> None:
        """Give a queued job this place, from 0, among the queued ones."""
        ...

    def change_budget(self, job_id: str, budget: Budget) -> None:
        """Let a running job use more or less of the device from its next block on."""
        ...

    def set_paused(self, paused: bool, /) -> None:  # noqa: FBT001 - as the conductor has it
        """Start no further job, or go on."""
        ...

    def clear_ended(self) -> None:
        """Take finished, cancelled and failed jobs off the list."""
        ...

    def calibrate(self, command: Calibrate) -> None:
        """Measure the machine while no job runs; told by `CalibrationDone`."""
        ...
