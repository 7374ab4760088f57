"""Keeps what the monitor saw: the last minute finely, the whole run in bounded memory."""

import enum
from collections import deque
from dataclasses import dataclass

from app.monitor.buffers import Columns, DecimatingBuffer, RollingBuffer
from app.monitor.figures import Figures, RunningFigures
from app.monitor.reading import Reading, Series

RECENT_S = 60.0
SAMPLES_PER_S = 10
RECENT_ROWS = int(RECENT_S * SAMPLES_PER_S) + 8
"""A little more than a minute, for samples that come early."""
RUN_ROWS = 1200
"""At least 600 points over a whole run, which is what a graph can show."""
MAX_MARKS = 512


class Mark(enum.Enum):
    """Something that happened at one moment of a run."""

    LOAD = "load"
    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    SAVE = "save"
    RESTARTED = "restarted"
    """The engine died; a new one works on the job."""
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


END_MARKS = frozenset({Mark.FINISHED, Mark.CANCELLED, Mark.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMark:
    """A mark at a time on the monotonic clock, of a job."""

    time_s: float
    mark: Mark
    job_id: str


class FiguresSpan(enum.Enum):
    """What peak and average are about."""

    START = "start"
    """Since the first sample: nothing has run yet."""
    RUN = "run"
    """The run that goes on."""
    LAST_RUN = "last run"
    """The run that ended last."""
    RESET = "reset"
    """Since the user asked to begin anew."""


class RunRecorder:
    """Takes readings and marks; knows no clock and no thread of its own.

    A run is the work on one job, from its first phase to its end. Peak and average begin anew with
    each run and stand still after it, so that they can be read.
    """

    def __init__(self) -> None:
        self._recent = RollingBuffer(capacity=RECENT_ROWS, columns=len(Series))
        self._run = DecimatingBuffer(capacity=RUN_ROWS, columns=len(Series))
        self._figures = tuple(RunningFigures() for _ in Series)
        self._marks: deque[PhaseMark] = deque(maxlen=MAX_MARKS)
        self._run_job_id: str | None = None
        self._run_began_s: float | None = None
        self._running = False
        self._span = FiguresSpan.START

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self._running

    @property
    def run_job_id(self) -> str | None:
        """Of the run that goes on or ended last; None before the first."""
        return self._run_job_id

    @property
    def run_began_s(self) -> float | None:
        """When that run began; None before the first."""
        return self._run_began_s

    @property
    def span(self) -> FiguresSpan:
        """What `figures` are about."""
        return self._span

    def add(self, reading: Reading) -> None:
        """Record a reading."""
        values = reading.values()
        self._recent.add(reading.time_s, values)
        if self._running:
            self._run.add(reading.time_s, values)
        counts = self._span is not FiguresSpan.LAST_RUN
        for figures, value in zip(self._figures, values, strict=True):
            if counts:
                figures.add(reading.time_s, value)
            else:
                figures.set_now(value)

    def note_peak(self, time_s: float, series: Series, value_bytes: float) -> None:
        """Take what the engine saw between samples; outside of a run it says nothing new."""
        if self._running:
            self._figures[series].note_peak(time_s, value_bytes)

    def mark(self, time_s: float, mark: Mark, job_id: str) -> bool:
        """Record what happened; the first phase of another job begins a run.

        Returns:
            Whether a run began or ended with it.
        """
        began = False
        ends = mark in END_MARKS
        if not ends and mark is not Mark.RESTARTED and not self._goes_on(job_id):
            self._begin(time_s, job_id)
            began = True
        elif not self._goes_on(job_id):
            return False
        self._marks.append(PhaseMark(time_s=time_s, mark=mark, job_id=job_id))
        if ends:
            self._running = False
            if self._span is FiguresSpan.RUN:
                self._span = FiguresSpan.LAST_RUN
        return began or ends

    def reset_figures(self) -> None:
        """Begin peak and average anew, in the middle of a run too."""
        for figures in self._figures:
            figures.reset()
        self._span = FiguresSpan.RESET

    def figures(self, series: Series) -> Figures:
        """Now, peak and average of a series."""
        return self._figures[series].figures()

    def recent(self, now_s: float) -> Columns:
        """The last 60 s."""
        return self._recent.since(now_s - RECENT_S)

    def run(self) -> Columns:
        """The run that goes on or ended last; empty before the first."""
        return self._run.all()

    @property
    def run_generation(self) -> int:
        """Another number when rows of `run` are others than before, not only more."""
        return self._run.generation

    def marks(self, since_s: float) -> tuple[PhaseMark, ...]:
        """Marks from this time on, oldest first."""
        return tuple(mark for mark in self._marks if mark.time_s >= since_s)

    def _goes_on(self, job_id: str) -> bool:
        return self._running and self._run_job_id == job_id

    def _begin(self, time_s: float, job_id: str) -> None:
        self._run.clear()
        self._run_job_id = job_id
        self._run_began_s = time_s
        self._running = True
        for figures in self._figures:
            figures.reset()
        self._span = FiguresSpan.RUN
