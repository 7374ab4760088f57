"""What is wanted of a running job's memory: asked by the thread that reads, taken by the worker.

The counterpart of `CancelFlag`: the run looks at it before each block, step and phase.
"""

import threading
from dataclasses import dataclass, replace

from app.core.policy import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """What is wanted of the run.

    Attributes:
        device_bytes: How much less on the device; 0 where only RAM is short.
        host_bytes: How much less of the computer's RAM.
        reason: One sentence: what was seen.
    """

    device_bytes: int
    host_bytes: int
    reason: str


class ReliefRequests:
    """What was asked of one job and not taken yet; safe to use from two threads.

    Attributes:
        pending: Whether there may be something; a look at it costs nothing.
    """

    def __init__(self) -> None:
        self.pending = False
        self._lock = threading.Lock()
        self._asked: Relief | None = None
        self._budget: Budget | None = None
        self._offer: str | None = None

    def ask(self, device_bytes: int, host_bytes: int, reason: str) -> None:
        """Want that much less from the next look on.

        Each asking tells the whole shortage at its moment, so one that comes before the last was
        taken replaces it where it is larger and is not added to it. What was offered before is
        not there any more.
        """
        with self._lock:
            last = self._asked
            self._asked = Relief(
                device_bytes=max(device_bytes, 0 if last is None else last.device_bytes),
                host_bytes=max(host_bytes, 0 if last is None else last.host_bytes),
                reason=reason,
            )
            self._offer = None
            self.pending = True

    def change_budget(self, budget: Budget) -> None:
        """Want this budget from the next look on; only the last one counts."""
        with self._lock:
            self._budget = budget
            self.pending = True

    def offer(self, reason: str) -> None:
        """Memory is free again, unless less is wanted at the same time."""
        with self._lock:
            if self._asked is None:
                self._offer = reason
                self.pending = True

    def take(self) -> Relief | None:
        """What is wanted since the last look, once; None when it is nothing."""
        with self._lock:
            asked, self._asked = self._asked, None
            self._tidy()
        return asked

    def asked(self) -> Relief | None:
        """What `take` would give."""
        with self._lock:
            return self._asked

    def take_device_part(self) -> Relief | None:
        """Of what is wanted, the device's part, once; what is wanted of RAM waits for `take`."""
        with self._lock:
            asked = self._asked
            if asked is not None:
                self._asked = replace(asked, device_bytes=0) if asked.host_bytes else None
            self._tidy()
        return asked

    def take_budget(self) -> Budget | None:
        """The budget that was changed to since the last look, once; None when it was not."""
        with self._lock:
            budget, self._budget = self._budget, None
            self._tidy()
        return budget

    def take_offer(self) -> str | None:
        """Why there is more memory than at the last look, once; None when there is not."""
        with self._lock:
            offer, self._offer = self._offer, None
            self._tidy()
        return offer

    def _tidy(self) -> None:
        self.pending = not (self._asked is None and self._budget is None and self._offer is None)
