"""What a run tells about its memory, in plain words in the log."""

import logging

from app.core.events import (
    Downshifted,
    ImagesDeferred,
    JobEvent,
    JobFailed,
    PlanMade,
    RunResumed,
    WaitedForMemory,
    WaitingForMemory,
)
from app.monitor.alerts import (
    deferred_sentence,
    downshift_sentence,
    plan_sentence,
    resumed_sentence,
    waited_sentence,
    waiting_sentence,
)

log = logging.getLogger(__name__)


def log_event(event: JobEvent) -> None:
    """Write down what would be asked for when a run did not go as wished."""
    match event:
        case PlanMade():
            log.info("job %s: plan: %s", event.job_id, plan_sentence(event.plan))
            for reason in event.plan.reasons:
                log.info("job %s: %s", event.job_id, reason)
        case Downshifted():
            log.info("job %s: %s", event.job_id, downshift_sentence(event))
        case WaitingForMemory():
            log.info("job %s: %s", event.job_id, waiting_sentence(event))
        case WaitedForMemory():
            log.info("job %s: %s", event.job_id, waited_sentence(event))
        case ImagesDeferred():
            log.info("job %s: %s", event.job_id, deferred_sentence(event))
        case RunResumed():
            log.info("job %s: %s", event.job_id, resumed_sentence(event))
        case JobFailed():
            log.info("job %s failed: %s %s", event.job_id, event.error.code, event.error.message)
        case _:
            pass
