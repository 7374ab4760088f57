"""What the predictor says."""

from dataclasses import dataclass

from app.core.jobs import Phase
from app.monitor.shortage import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Memory will run out unless the run takes less.

    Attributes:
        job_id: Of the running job.
        cause: Why.
        phase: The one that would run out, the present one or one to come.
        device_bytes: The device lacks so much.
        host_bytes: The computer's RAM lacks so much.
        in_s: Until then; 0 when it may be at any moment.
        sentence: For people.
    """

    job_id: str
    cause: Cause
    phase: Phase
    device_bytes: int
    host_bytes: int
    in_s: float
    sentence: str
