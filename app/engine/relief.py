"""Less memory for a running job: asked for by the thread that reads commands, taken by the worker.

The counterpart of `CancelFlag`: the run looks at it at each step and phase boundary.
"""

import threading
from dataclasses import dataclass


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
    """What was asked of one job and not taken yet; safe to use from two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Relief | None = None

    def ask(self, device_bytes: int, host_bytes: int, reason: str) -> None:
        """Want that much less from the next look on.

        Each asking tells the whole shortage at its moment, so one that comes before the last was
        taken replaces it where it is larger and is not added to it.
        """
        with self._lock:
            last = self._asked
            self._asked = Relief(
                device_bytes=max(device_bytes, 0 if last is None else last.device_bytes),
                host_bytes=max(host_bytes, 0 if last is None else last.host_bytes),
                reason=reason,
            )

    def take(self) -> Relief | None:
        """What is wanted since the last look, once; None when it is nothing."""
        with self._lock:
            asked, self._asked = self._asked, None
        return asked
