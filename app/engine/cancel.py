"""Stopping a job: a flag set by the thread that reads commands, looked at by the one that works."""

import threading
from typing import Any


class CancelRequestedError(Exception):
    """The user took the job back; an outcome, not a failure, hence outside the tree of AppError."""


class CancelFlag:
    """Whether one job is to stop.

    Attributes:
        goes_on: Whether the job will be run again, as when the app is closed: what is done of it
            is kept.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.goes_on = False

    def set(self, *, goes_on: bool = False) -> None:
        """Ask the job to stop at the next look; taken back for good when any asking says so."""
        self.goes_on = goes_on and (self.goes_on or not self._event.is_set())
        self._event.set()

    def pause(self, seconds: float) -> None:
        """Let time pass, and look at the flag; the pause ends when it is set.

        Raises:
            CancelRequestedError: The job is to stop.
        """
        self._event.wait(seconds)
        self.check()

    def check(self) -> None:
        """Look at the flag.

        Raises:
            CancelRequestedError: The job is to stop.
        """
        if self._event.is_set():
            raise CancelRequestedError


class CancelPoints:
    """Looks at the running job's flag before each block of the networks it watches.

    A step of a large model takes many seconds on a CPU; its blocks do not.
    """

    def __init__(self) -> None:
        self.flag = CancelFlag()

    def watch(self, network: Any) -> None:  # noqa: ANN401 - a torch.nn.Module; see below
        """Look before each part of each list of parts, but for parts that have none themselves.

        Those are quick, and lie within others, which may be compiled: a look is no computation.
        Untyped on purpose: this module is imported before torch is.
        """
        for module in network.modules():
            if type(module).__name__ == "ModuleList":
                for block in module:
                    if next(block.children(), None) is not None:
                        block.register_forward_pre_hook(self._before_block)

    def _before_block(self, *_inputs: object) -> None:
        self.flag.check()
