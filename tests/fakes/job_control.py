"""A JobControl that does nothing but remember what it was asked."""

from app.core.jobs import Job
from app.core.policy import Budget
from app.engine.protocol import Calibrate


class FakeJobControl:
    """Records every call, in order.

    Attributes:
        submitted: Jobs with whether they go to the front.
        calls: Everything else: the method's name and its arguments.
    """

    def __init__(self) -> None:
        self.submitted: list[tuple[Job, bool]] = []
        self.calls: list[tuple[object, ...]] = []

    def submit(self, job: Job, *, front: bool = False) -> None:
        self.submitted.append((job, front))

    def cancel(self, job_id: str) -> None:
        self.calls.append(("cancel", job_id))

    def remove(self, job_id: str) -> None:
        self.calls.append(("remove", job_id))

    def move(self, job_id: str, to_index: int) -> None:
        self.calls.append(("move", job_id, to_index))

    def change_budget(self, job_id: str, budget: Budget) -> None:
        self.calls.append(("change_budget", job_id, budget))

    def set_paused(self, paused: bool, /) -> None:
        self.calls.append(("set_paused", paused))

    def clear_ended(self) -> None:
        self.calls.append(("clear_ended",))

    def calibrate(self, command: Calibrate) -> None:
        self.calls.append(("calibrate", command))
