"""A run told to people: one moving line on a terminal, plain lines elsewhere, paths on stdout."""

import math
import shutil
import sys
from typing import TextIO

from app.cli.report import Report, SavedImage
from app.cli.stdout import write_out
from app.core.errors import ErrorInfo
from app.core.events import (
    ConductorEvent,
    Converting,
    Downshifted,
    EngineState,
    EngineStateChanged,
    ImagesDeferred,
    JobFinished,
    Notice,
    PhaseStarted,
    RunResumed,
    StepDone,
    Streaming,
)
from app.core.jobs import Phase
from app.core.units import format_bandwidth, format_bytes, format_rate, format_seconds
from app.engine.planning.precisions import PRECISION_WORDS
from app.monitor.alerts import deferred_sentence, downshift_sentence, resumed_sentence

BAR_WIDTH = 24
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

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        """Take the streams, by default the process's own."""
        self._stdout = stdout
        self._stderr = stderr or sys.stderr
        self._rewrites = self._stderr.isatty()
        self._step_seconds: list[float] = []
        self._converted = 100

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
            case Converting():
                self._converting(event)
            case StepDone():
                self._step(event)
            case Downshifted():
                self._line(downshift_sentence(event))
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
        """Time and memory."""
        memory = event.memory
        if memory.device_peak_bytes is None:
            peak = f"{format_bytes(memory.host_peak_rss_bytes)} of memory at most"
        else:
            peak = f"{format_bytes(memory.device_peak_bytes)} of VRAM at most"
        noun = "image" if images == 1 else "images"
        self._line(f"{images} {noun} in {format_seconds(event.seconds)}, {peak}")

    def error(self, error: ErrorInfo) -> None:
        """The sentence."""
        self._line(f"headroom: {error.message}")

    def _converting(self, event: Converting) -> None:
        """Weights are quantized, which is done once."""
        percent = 100 * event.done_bytes // max(1, event.total_bytes)
        # A line for each would be many where lines cannot be rewritten.
        if self._rewrites or percent // 25 != self._converted // 25 or percent < self._converted:
            component = event.component.replace("_", " ")
            precision = PRECISION_WORDS[event.precision]
            self._status(f"Converting the {component} to {precision}, once  {percent} %")
        self._converted = percent

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
            filled = BAR_WIDTH * event.step // event.steps
            bar = "#" * filled + "-" * (BAR_WIDTH - filled)
            self._status(f"{_PHASES[Phase.DENOISE]}  [{bar}]  {told}")
        elif event.step == event.steps or event.step % -(-event.steps // PLAIN_STEP_LINES) == 0:
            self._status(f"{_PHASES[Phase.DENOISE]}  {told}")

    def _status(self, text: str) -> None:
        """Something that the next status may replace."""
        if self._rewrites:
            width = shutil.get_terminal_size().columns - 1
            self._stderr.write(_CLEAR_LINE + text[:width])
        else:
            self._stderr.write(text + "\n")
        self._stderr.flush()

    def _line(self, text: str) -> None:
        """Something that stays."""
        self._clear()
        self._stderr.write(text + "\n")
        self._stderr.flush()

    def _clear(self) -> None:
        if self._rewrites:
            self._stderr.write(_CLEAR_LINE)
            self._stderr.flush()


def _streamed(streaming: Streaming) -> str:
    """What the link to the device achieved in a step, and how little of it was waited for."""
    rate = streaming.bytes_per_s
    if rate is None:
        return ""
    hidden = math.floor(streaming.hidden_share * 100)
    return f"  {format_bandwidth(rate)} streamed, {hidden} % hidden"
