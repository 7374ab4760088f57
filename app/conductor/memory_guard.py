"""Samples and events in, wishes to the engine out: for less memory, or that it may have more."""

import logging

from app.conductor.memory_return import ReturnWatch
from app.core.device import DeviceSnapshot, Sample
from app.core.events import (
    FORESEEN_CODE,
    EngineStateChanged,
    JobCancelled,
    JobFailed,
    JobFinished,
    Notice,
    WaitedForMemory,
    WaitingForMemory,
)
from app.engine.session import EngineSession
from app.monitor.alerts import foreseen_sentence
from app.monitor.predictor import MemoryPredictor

log = logging.getLogger(__name__)

_WAITS_NO_MORE = (WaitedForMemory, JobFinished, JobFailed, JobCancelled, EngineStateChanged)


class MemoryGuard:
    """Watches the memory of the running job.

    Attributes:
        device: The GPU as last seen; None before that, and without one.
    """

    def __init__(self) -> None:
        self.device: DeviceSnapshot | None = None
        self._run_waits = False
        self._predictor = MemoryPredictor()
        self._returns = ReturnWatch()

    def note(self, event: object) -> None:
        """Take an event, in the order of all events."""
        if isinstance(event, WaitingForMemory):
            self._run_waits = True
        elif isinstance(event, _WAITS_NO_MORE):
            self._run_waits = False
        self._predictor.note(event)
        self._returns.note(event)

    def look(self, sample: Sample, engine: EngineSession | None) -> Notice | None:
        """Take a sample; ask the engine for less when memory is about to run out.

        When memory has come back for good, it is told that weights may have it.

        Returns:
            What to tell the user, when something was asked.
        """
        self.device = sample.device or self.device
        if self._run_waits:
            # It has nothing to give, and knows what is missing.
            return None
        prediction = self._predictor.look(sample)
        back = self._returns.look(sample)
        if prediction is None and back is not None:
            log.info("%s", back.sentence)
            if engine is not None and engine.job_id == back.job_id:
                engine.offer_memory(back.sentence)
        if prediction is None or engine is None or engine.job_id != prediction.job_id:
            return None
        log.info("%s", prediction.sentence)
        engine.relieve(
            device_bytes=prediction.device_bytes,
            host_bytes=prediction.host_bytes,
            reason=prediction.sentence,
        )
        return Notice(
            job_id=prediction.job_id, code=FORESEEN_CODE, message=foreseen_sentence(prediction)
        )
