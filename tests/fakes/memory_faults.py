"""Memory that runs out at the first call of one function of the engine."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import app.engine

_ROOT = str(Path(app.engine.__file__).parent) + "/"


class Place(NamedTuple):
    """A function of the engine."""

    file: str
    name: str
    line: int


@dataclass(slots=True)
class Faults:
    """What was called, in order, and whether the fault came.

    Attributes:
        called: Each function once.
        fired: Whether memory ran out.
    """

    called: dict[Place, None] = field(default_factory=dict[Place, None])
    fired: bool = False


@contextmanager
def memory_runs_out(
    at: Place | None,
    error: Callable[[], BaseException] = MemoryError,
) -> Generator[Faults]:
    """Around what runs in this thread.

    Args:
        at: The function at whose first call the error is raised; None raises nothing.
        error: Makes what is raised.
    """
    faults = Faults()

    def look(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if faults.fired or event != "call" or not code.co_filename.startswith(_ROOT):
            return
        place = Place(code.co_filename[len(_ROOT) :], code.co_name, code.co_firstlineno)
        faults.called[place] = None
        if place == at:
            # Python calls a tracer that raised no more.
            faults.fired = True
            raise error()

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield faults
    finally:
        sys.settrace(before)
