"""The place for the one engine process: at most one is in it, and only its messages count."""

import logging
from collections.abc import Callable

from app.core.errors import ErrorInfo
from app.engine.client import EngineEnded, EngineMessage, StartEngine
from app.engine.session import EngineSession

log = logging.getLogger(__name__)

KILL_WAIT_S = 5.0
"""A killed process frees its VRAM before the next one is started."""


class EngineSlot:
    """Starts and ends engine processes and numbers them.

    Attributes:
        session: The process in use, or None.
    """

    def __init__(
        self,
        *,
        start_engine: StartEngine,
        deliver: Callable[[int, EngineMessage], None],
        clock: Callable[[], float],
    ) -> None:
        """Leave the slot empty.

        Args:
            start_engine: Makes a running process.
            deliver: Gets each message with the number of its process, in any thread.
            clock: Monotonic, in seconds.
        """
        self.session: EngineSession | None = None
        self._start_engine = start_engine
        self._deliver = deliver
        self._clock = clock
        self._number = 0

    def now_s(self) -> float:
        """On the clock of the deadlines."""
        return self._clock()

    def is_current(self, number: int) -> bool:
        """Whether a message is from the process in use, not from a dead one."""
        return number == self._number

    def begin(self) -> EngineSession | None:
        """Start a process; when the system cannot, that is delivered as its end."""
        self._number += 1
        number = self._number

        def deliver(message: EngineMessage) -> None:
            self._deliver(number, message)

        try:
            client = self._start_engine(deliver)
        except OSError as error:
            info = ErrorInfo(
                code="engine.start",
                message=(
                    f"The engine cannot be started ({error.strerror or error}): "
                    "run “headroom doctor” to see what is wrong."
                ),
                details=str(error),
            )
            deliver(EngineEnded(exit_code=None, error=info))
            return None
        self.session = EngineSession(client, now_s=self._clock())
        return self.session

    def forget(self) -> EngineSession | None:
        """Empty the slot; nothing counts any more that its process still says."""
        session, self.session = self.session, None
        self._number += 1
        return session

    def kill(self) -> None:
        """End the process now and empty the slot."""
        session = self.forget()
        if session is not None:
            session.client.kill()
            if not session.client.wait(KILL_WAIT_S):
                log.warning("the killed engine (pid %s) is not gone yet", session.client.pid)

    def patience_s(self) -> float | None:
        """How long until something that is awaited has taken too long; None while nothing is."""
        session = self.session
        if session is None:
            return None
        deadlines_s = [
            one for one in (session.deadline_s, session.cancel_deadline_s) if one is not None
        ]
        return max(0.0, min(deadlines_s) - self._clock()) if deadlines_s else None

    def cancel_overdue(self) -> bool:
        """Whether the process was asked to cancel while loading and did not answer in time."""
        return self.session is not None and self._is_over(self.session.cancel_deadline_s)

    def overdue(self) -> EngineEnded | None:
        """What to report of a process that did not start or measure in time; it is killed."""
        session = self.session
        if session is None or not self._is_over(session.deadline_s):
            return None
        measuring = session.calibrating
        self.kill()
        if measuring:
            error = ErrorInfo(
                code="engine.calibration_timeout",
                message=(
                    "The engine did not measure the machine in time: the GPU driver or a disk may "
                    "be stuck."
                ),
            )
            return EngineEnded(exit_code=None, error=error)
        error = ErrorInfo(
            code="engine.start_timeout",
            message="The engine did not start in time: the disk or the GPU driver may be stuck.",
        )
        return EngineEnded(exit_code=None, error=error)

    def _is_over(self, deadline_s: float | None) -> bool:
        return deadline_s is not None and self._clock() >= deadline_s
