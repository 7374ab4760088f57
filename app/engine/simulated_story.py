"""What happens on a simulated device, as it stands in a JSON file.

A story is for tests and for looking at how the engine acts when memory gets short. Example:

    {"capacity_bytes": 12884901888, "tflops": 60, "copy_bytes_per_s": 20e9,
     "others": [{"bytes": 1000000000},
                {"at": {"phase": "denoise", "step": 12}, "bytes": 6000000000}],
     "failures": [{"at": {"phase": "decode"}, "times": 2}]}
"""

import enum
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.core.errors import SetupError
from app.core.jobs import Phase
from app.core.profile import HostProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in a run: all that is set must be reached; nothing set is the very beginning.

    Attributes:
        phase: The run is in this phase.
        step: At least this many denoising steps are done.
        operation: At least this many operations have begun since the phase or the step did.
        time_s: The device's virtual clock shows at least this.
    """

    phase: Phase | None = None
    step: int = 0
    operation: int = 0
    time_s: float = 0.0

    def reached(self, now: "Moment") -> bool:
        """Whether `now` is this moment or a later one."""
        return (
            self.phase in (None, now.phase)
            and now.step >= self.step
            and now.operation >= self.operation
            and now.time_s >= self.time_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherUse:
    """From a moment on, other programs hold this much, in place of what they held before.

    Attributes:
        at: When it begins, once.
        bytes: Held by them.
        bytes_per_s: And more of it with each virtual second from then on.
    """

    at: Moment = field(default_factory=Moment)
    bytes: int
    bytes_per_s: float = 0.0


class FailureKind(enum.Enum):
    """How memory runs out."""

    DEVICE = "device"
    """torch's allocator finds no room."""
    DRIVER = "driver"
    """The driver finds no room, for a kernel or for pinned memory."""
    LIBRARY = "library"
    """cuBLAS finds no room for its workspace."""
    HOST = "host"
    """The computer's RAM is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Memory runs out at a moment, whatever the accounts say.

    Attributes:
        at: The first time it is reached.
        kind: How.
        times: So many operations in a row, those of the recovery included.
    """

    at: Moment = field(default_factory=Moment)
    kind: FailureKind = FailureKind.DEVICE
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A device and what happens on it.

    Attributes:
        capacity_bytes: Its memory.
        name: For people.
        kind: What the planner takes it for: "cuda", "rocm" or "xpu".
        context_bytes: Taken by our process before any tensor.
        working_factor: Bytes of working memory that are counted for each that is used: at 1.25
            every forecast is 20 % too low.
        tflops: Speed of matrix products; 0 is no time at all.
        copy_bytes_per_s: Speed of weights on their way to the device; 0 is no time at all.
        others: What other programs hold, in order of time.
        failures: That happen besides.
        host: RAM that the computer says it has; None is the real one's.
        pauses_are_real: Whether it takes as long as it says to wait for memory, for who looks on.
    """

    capacity_bytes: int
    name: str = "Simulated GPU"
    kind: str = "cuda"
    context_bytes: int = 0
    working_factor: float = 1.0
    tflops: float = 0.0
    copy_bytes_per_s: float = 0.0
    others: tuple[OtherUse, ...] = ()
    failures: tuple[Failure, ...] = ()
    host: HostProfile | None = None
    pauses_are_real: bool = False


def read_story(path: Path) -> Story:
    """The story of a file.

    Raises:
        SetupError: It cannot be read, or is no story.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Story)
    except (OSError, msgspec.DecodeError) as error:
        raise SetupError(
            f"The simulated device of {path} cannot be used: correct the file or choose “auto”.",
            code="setup.device",
            details=str(error),
        ) from error
