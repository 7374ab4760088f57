"""A run told to people: one moving line on a terminal, plain lines elsewhere, paths on stdout."""

import math
import shutil
import time
from collections.abc import Callable
from typing import TextIO

from app.cli.report import Report, SavedImage
from app.cli.stderr import rewrites, write_err
from app.cli.stdout import write_out
from app.core.bytes_left import BytesLeft
from app.core.errors import ErrorInfo
from app.core.events import (
    ConductorEvent,
    Converting,
    Downshifted,
    EngineState,
    EngineStateChanged,
    ImagesDeferred,
    JobFinished,
    Loading,
    Notice,
    PhaseStarted,
    RunResumed,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Phase
from app.core.streaming import StreamedPhase, Streaming
from app.core.units import (
    format_bandwidth,
    format_bytes,
    format_part,
    format_rate,
    format_seconds,
)
from app.engine.planning.precisions import PRECISION_WORDS
from app.monitor.alerts import (
    deferred_sentence,
    downshift_sentence,
    resumed_sentence,
    waited_sentence,
    waiting_sentence,
)

BAR_WIDTH = 24
NARROW_BAR = 6
"""A shorter one says nothing."""
PLAIN_STEP_LINES = 10
"""At most so many lines for the steps where lines cannot be rewritten."""
_PHASES = {
    Phase.LOAD: "Loading the model",
    Phase.ENCODE: "Reading the prompt",
    Phase.DENOISE: "Denoising",
    Phase.DECODE: "Decoding",
    Phase.SAVE: "Saving",
}
_CLEAR_LINE = "\r\x1b[K"


class TextReport(Report):
    """Progress on stderr; on stdout only the paths of images, so that they can be piped."""

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the streams, by default the process's own, and a clock."""
        self._stdout = stdout
        self._stderr = stderr
        self._rewrites = rewrites(stderr)
        self._step_seconds: list[float] = []
        self._clock = clock
        self._left = BytesLeft()
        self._told: tuple[str, int] = ("", 0)

    def event(self, event: ConductorEvent) -> None:
        """Show engine states, phases, steps, and what gave way."""
        match event:
            case EngineStateChanged(state=EngineState.STARTING):
                self._status("Starting the engine")
            case EngineStateChanged(state=EngineState.RESTARTING, reason=reason):
                self._line(reason)
            case PhaseStarted():
                self._step_seconds = []
                note = f" ({event.note})" if event.note else ""
                self._status(_PHASES[event.phase] + note)
            case Loading():
                what = _PHASES[Phase.LOAD]
                self._bytes(what, event.done_bytes, event.total_bytes)
            case Converting():
                component = event.component.replace("_", " ")
                what = f"Converting the {component} to {PRECISION_WORDS[event.precision]}, once"
                self._bytes(what, event.done_bytes, event.total_bytes)
            case StepDone():
                self._step(event)
            case Downshifted():
                self._line(downshift_sentence(event))
            case WaitingForMemory():
                self._waiting(event)
            case WaitedForMemory():
                self._line(waited_sentence(event))
            case ImagesDeferred():
                self._line(deferred_sentence(event))
            case RunResumed():
                self._line(resumed_sentence(event))
            case _:
                pass

    def notice(self, notice: Notice) -> None:
        """A line of its own."""
        self._line(notice.message)

    def image(self, image: SavedImage) -> None:
        """The path on stdout."""
        self._clear()
        write_out(image.path + "\n", self._stdout)

    def done(self, event: JobFinished, *, images: int) -> None:
        """Time and memory, and what streaming was like."""
        memory = event.memory
        if memory.device_peak_bytes is None:
            peak = f"{format_bytes(memory.host_peak_rss_bytes)} of memory at most"
        else:
            peak = f"{format_bytes(memory.device_peak_bytes)} of VRAM at most"
        noun = "image" if images == 1 else "images"
        self._line(f"{images} {noun} in {format_seconds(event.seconds)}, {peak}")
        for phase in () if event.report is None else event.report.phases:
            if phase.streamed is not None:
                self._line(f"{_PHASES[phase.phase]}: {_came_in(phase.streamed)}")

    def error(self, error: ErrorInfo) -> None:
        """The sentence."""
        self._line(f"headroom: {error.message}")

    def _waiting(self, event: WaitingForMemory) -> None:
        text = waiting_sentence(event)
        if self._rewrites:
            text += f"  given up in {_whole(event.left_s)}"
        elif self._told == (text, 0):
            return
        self._told = (text, 0)
        self._status(text)

    def _bytes(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """So many bytes of something are done."""
        now_s = self._clock()
        self._left.note(what, done_bytes, total_bytes, now_s)
        fraction = done_bytes / max(1, total_bytes)
        quarter = int(4 * fraction)
        # A line for each would be many where lines cannot be rewritten.
        if not self._rewrites and self._told == (what, quarter):
            return
        self._told = (what, quarter)
        told = format_part(done_bytes, total_bytes)
        remaining_s = self._left.remaining_s(now_s)
        if remaining_s is not None and done_bytes < total_bytes:
            told += f"  ETA {_whole(remaining_s)}"
        self._status(f"{what}  {self._bar(fraction, beside=len(what) + len(told))}{told}")

    def _bar(self, fraction: float, *, beside: int) -> str:
        """A bar where lines can be rewritten and there is room beside so many characters."""
        width = min(BAR_WIDTH, self._columns() - beside - len("  []  "))
        if not self._rewrites or width < NARROW_BAR:
            return ""
        filled = int(width * fraction)
        return f"[{'#' * filled}{'-' * (width - filled)}]  "

    def _columns(self) -> int:
        return shutil.get_terminal_size().columns - 1

    def _step(self, event: StepDone) -> None:
        self._step_seconds.append(event.seconds)
        # The first step pays for what is set up once; it says little about the others.
        typical = self._step_seconds[1:] or self._step_seconds
        seconds_per_step = sum(typical) / len(typical)
        remaining_s = seconds_per_step * (event.steps - event.step)
        told = f"{event.step}/{event.steps}  {format_rate(seconds_per_step)}"
        if event.streaming is not None:
            told += _streamed(event.streaming)
        if event.step < event.steps:
            told += f"  ETA {format_seconds(remaining_s)}"
        if self._rewrites:
            what = _PHASES[Phase.DENOISE]
            bar = self._bar(event.step / event.steps, beside=len(what) + len(told))
            self._status(f"{what}  {bar}{told}")
        elif event.step == event.steps or event.step % -(-event.steps // PLAIN_STEP_LINES) == 0:
            self._status(f"{_PHASES[Phase.DENOISE]}  {told}")

    def _status(self, text: str) -> None:
        """Something that the next status may replace."""
        if self._rewrites:
            write_err(_CLEAR_LINE + text[: self._columns()], self._stderr)
        else:
            write_err(text + "\n", self._stderr)

    def _line(self, text: str) -> None:
        """Something that stays."""
        self._clear()
        write_err(text + "\n", self._stderr)

    def _clear(self) -> None:
        if self._rewrites:
            write_err(_CLEAR_LINE, self._stderr)


def _streamed(streaming: Streaming) -> str:
    """What the link to the device achieved in a step, and how little of it was waited for."""
    rate = streaming.bytes_per_s
    if rate is None:
        return ""
    hidden = math.floor(streaming.hidden_share * 100)
    return f"  {format_bandwidth(rate)} streamed, {hidden} % hidden"


def _came_in(streamed: StreamedPhase) -> str:
    """What came in during a phase, and how long it was waited for."""
    streaming = streamed.streaming
    rate = streaming.bytes_per_s
    told = f"{format_bytes(streaming.streamed_bytes)} of weights streamed"
    if rate is not None:
        told += f" at {format_bandwidth(rate)}"
    if streamed.steps:
        waited, planned = streamed.waited_s, streamed.planned_waiting_s
        told += f", waited for {format_seconds(waited)} ({format_seconds(planned)} planned)"
    return told


def _whole(seconds: float) -> str:
    """A duration that is only estimated: no fractions of seconds."""
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 10 else format_seconds(whole)
