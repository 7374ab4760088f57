"""What the memory graph draws and the figures beside it, as plain data."""

import enum
from dataclasses import dataclass, field


class MemoryView(enum.Enum):
    """How much time the graph shows."""

    RECENT = "recent"
    """The last 60 s."""
    RUN = "run"
    """The run that goes on or ended last."""


class Lane(enum.Enum):
    """Which memory a part of the graph is about."""

    DEVICE = "device"
    """The GPU's own."""
    HOST = "host"
    """The computer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most our engine used in the span of the figures, and when, on the monotonic clock."""

    time_s: float
    value_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFrame:
    """One memory over time.

    Attributes:
        lane: Which memory.
        total_bytes: There is.
        ours: Bytes our engine used at each of the frame's times; not a number when nobody told.
        used: Bytes everyone used, ours included.
        peak: Of ours; None while there is none.
        resident: Of ours, bytes of weights that stayed; None where the engine tells nothing.
        slots: Of ours, bytes that streamed weights pass through; None like `resident`.
    """

    lane: Lane
    total_bytes: int
    ours: memoryview
    used: memoryview
    peak: Peak | None
    resident: memoryview | None = None
    slots: memoryview | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkFrame:
    """Something that happened: "load", "denoise", "finished", ... (values of `Mark`)."""

    time_s: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFrame:
    """One picture of the graph; its arrays are valid until the next sample.

    Attributes:
        view: How much time is shown.
        origin_s: Monotonic time of the picture's zero: now, or when the run began.
        elapsed_s: From zero to the last value; 0 in the view of the last 60 s.
        generation: Another number when earlier values are others than before (a new run, or a long
            one made coarser); the same while there are only more of them.
        times_s: Monotonic times of the values, rising.
        lanes: The GPU's memory first, if there is one.
        marks: Oldest first.
    """

    view: MemoryView
    origin_s: float
    elapsed_s: float
    generation: int
    times_s: memoryview
    lanes: tuple[LaneFrame, ...]
    marks: tuple[MarkFrame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFigures:
    """Figures of one series in bytes; None while nobody tells."""

    now: float | None
    peak: float | None
    average: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFigures:
    """Figures of what our engine uses its memory for; together they are what is ours."""

    resident: SeriesFigures
    slots: SeriesFigures
    working: SeriesFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFigures:
    """Figures of one memory; `parts` is None where the engine tells nothing of it."""

    lane: Lane
    total_bytes: int
    ours: SeriesFigures
    others: SeriesFigures
    used: SeriesFigures
    parts: PartFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """The figures beside the graph.

    Attributes:
        span: What peak and average are about: "start", "run", "last run" or "reset".
        lanes: In the order of the graph.
    """

    span: str = "start"
    lanes: tuple[LaneFigures, ...] = field(default=())
