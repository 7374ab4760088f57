"""How long a run still takes, told from its own steps and from earlier runs of the same shape."""

from collections import deque
from dataclasses import dataclass

from app.core.jobs import Job, Phase
from app.core.streaming import Streaming

RECENT_STEPS = 5
"""Few enough to follow a GPU that slows down, enough to even out a single slow step."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Runs that agree in this take the same time per step."""

    model_folder: str
    width_px: int
    height_px: int
    images: int
    references: int


class RunHistory:
    """Step and phase times of this session."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._streamed: deque[Streaming] = deque(maxlen=RECENT_STEPS)
        self._shape: _Shape | None = None
        self._step_s: dict[_Shape, float] = {}
        self._phase_s: dict[tuple[_Shape, Phase], float] = {}

    def start(self, job: Job) -> None:
        """A job begins, or begins again."""
        request = job.request
        self._recent.clear()
        self._streamed.clear()
        self._shape = _Shape(
            job.model_folder,
            request.width_px,
            request.height_px,
            request.images,
            len(request.references),
        )

    def add_step(self, seconds: float, streaming: Streaming | None = None) -> None:
        """A step of the running job took this long, and these weights came in during it."""
        self._recent.append(seconds)
        if streaming is None:
            # Nothing streams any more.
            self._streamed.clear()
        else:
            self._streamed.append(streaming)
        if self._shape is not None:
            self._step_s[self._shape] = self._mean()

    def streaming(self) -> Streaming | None:
        """Of the newest steps of this run together; None where nothing streams."""
        if not self._streamed:
            return None
        first, *others = self._streamed
        return sum(others, first)

    def add_phase(self, phase: Phase, seconds: float) -> None:
        """A phase of the running job took this long."""
        if self._shape is not None:
            self._phase_s[self._shape, phase] = seconds

    def seconds_per_step(self) -> float | None:
        """Mean of the newest steps of this run, else what runs of this shape took, else None."""
        if self._recent:
            return self._mean()
        return None if self._shape is None else self._step_s.get(self._shape)

    def remaining_s(self, phase: Phase, *, step: int, steps: int) -> float | None:
        """Time until the picture is there, counted from the last event; None when unknown."""
        if phase is Phase.LOAD:
            # Depends on what is in memory already: nothing honest can be said.
            return None
        save_s = self._phase(Phase.SAVE)
        if phase is Phase.SAVE:
            return save_s
        tail_s = self._phase(Phase.DECODE) + save_s
        if phase is Phase.DECODE:
            return tail_s or None
        per_step = self.seconds_per_step()
        if per_step is None:
            return None
        encode_s = self._phase(Phase.ENCODE) if phase is Phase.ENCODE else 0.0
        return encode_s + per_step * (steps - step) + tail_s

    def _phase(self, phase: Phase) -> float:
        """Seconds of this phase: measured for this shape, else scaled by pixels from another."""
        shape = self._shape
        if shape is None:
            return 0.0
        known = self._phase_s.get((shape, phase))
        if known is not None:
            return known
        for (other, other_phase), seconds in reversed(self._phase_s.items()):
            if other_phase is phase and other.model_folder == shape.model_folder:
                return seconds * _pixels(shape) / _pixels(other)
        return 0.0

    def _mean(self) -> float:
        return sum(self._recent) / len(self._recent)


def _pixels(shape: _Shape) -> int:
    return shape.width_px * shape.height_px * shape.images
