"""A run's progress in words."""

import math
from dataclasses import dataclass, replace

from PySide6.QtCore import QCoreApplication

from app.core.events import Converting
from app.core.jobs import Phase
from app.core.units import (
    format_bandwidth,
    format_bytes,
    format_part,
    format_rate,
    format_seconds,
)
from app.ui.models.jobs_model import model_name
from app.ui.models.memory_choices import precision_word
from app.ui.models.run_progress import RunProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressText:
    """What the progress row says.

    Attributes:
        phase: What is being done.
        step: "Step 3 of 8", "3.1 of 7.5 GB", "others hold 5.0 GB", or "".
        rate: "2.4 it/s", or "".
        remaining: "about 12 s left", "about 12 s of loading left", "for 48 s at most", or "".
        elapsed: "8 s".
        fraction: 0 to 1 while steps or bytes are counted, None while nothing can be.
        streaming: "11.8 GB/s, 98 % hidden", or "".
        streaming_tip: The same in a sentence, or "".
    """

    phase: str
    step: str
    rate: str
    remaining: str
    elapsed: str
    fraction: float | None
    streaming: str = ""
    streaming_tip: str = ""


def progress_text(progress: RunProgress) -> ProgressText:
    """Everything the progress row says about a run."""
    if progress.waiting is not None:
        # What was measured before is no speed of now.
        progress = replace(progress, streaming=None, seconds_per_step=None)
    denoising = progress.phase is Phase.DENOISE
    speed = progress.seconds_per_step if denoising and progress.step else None
    return ProgressText(
        phase=phase_words(progress),
        step=_step(progress),
        rate="" if speed is None else format_rate(speed),
        remaining=_remaining(progress),
        elapsed=countable_seconds(progress.elapsed_s),
        fraction=_fraction(progress),
        streaming=_streaming(progress),
        streaming_tip=_streaming_tip(progress),
    )


def phase_words(progress: RunProgress) -> str:
    """What the engine is doing, in a few words."""
    if progress.cancelling:
        return _tr("Cancelling")
    if progress.waiting is not None:
        text = _tr("Waiting for {size} of GPU memory")
        return text.format(size=format_bytes(progress.waiting.missing_bytes))
    if progress.converting is not None:
        return _converting(progress.converting)
    match progress.phase:
        case None:
            return _tr("Starting the engine")
        case Phase.LOAD:
            name = model_name(progress.job.request.model)
            return _tr("Loading the model {name}").format(name=name)
        case Phase.ENCODE:
            return _tr("Reading the prompt")
        case Phase.DENOISE:
            return _tr("Drawing")
        case Phase.DECODE:
            return _tr("Decoding the picture")
        case Phase.SAVE:
            return _tr("Saving")


def countable_seconds(seconds: float) -> str:
    """A duration that is told again every moment: whole seconds, so that it can be read."""
    return f"{math.floor(seconds)} s" if seconds < 10 else format_seconds(seconds)


def _step(progress: RunProgress) -> str:
    if progress.waiting is not None:
        text = _tr("others hold {size}")
        return text.format(size=format_bytes(progress.waiting.others_bytes))
    moved = progress.converting or progress.loading
    if moved is not None:
        return format_part(moved.done_bytes, moved.total_bytes)
    if progress.phase is Phase.DENOISE:
        return _tr("Step {step} of {steps}").format(step=progress.step, steps=progress.steps)
    return ""


def _fraction(progress: RunProgress) -> float | None:
    moved = progress.converting or progress.loading
    if moved is not None:
        return moved.done_bytes / max(1, moved.total_bytes)
    if progress.phase is Phase.DENOISE and progress.steps:
        return progress.step / progress.steps
    return None


def _converting(converting: Converting) -> str:
    """Of weights that are quantized: it is done once, and then kept."""
    text = (
        _tr("Converting the text encoder to {precision}, once")
        if converting.component == "text_encoder"
        else _tr("Converting the transformer to {precision}, once")
    )
    return text.format(precision=precision_word(converting.precision))


def _streaming(progress: RunProgress) -> str:
    streaming = progress.streaming
    rate = None if streaming is None else streaming.bytes_per_s
    if streaming is None or rate is None:
        return ""
    return _tr("{rate}, {share} % hidden").format(
        rate=format_bandwidth(rate), share=math.floor(streaming.hidden_share * 100)
    )


def _streaming_tip(progress: RunProgress) -> str:
    streaming = progress.streaming
    if streaming is None:
        return ""
    return _tr(
        "Weights stream to the GPU while it computes: {size} in the last steps. Computing had to "
        "wait for them for {waited} of the {copying} that copying took; the rest was hidden."
    ).format(
        size=format_bytes(streaming.streamed_bytes),
        waited=format_seconds(streaming.waited_s),
        copying=format_seconds(streaming.copying_s),
    )


def _remaining(progress: RunProgress) -> str:
    if progress.cancelling:
        return ""
    if progress.waiting is not None:
        left = countable_seconds(math.ceil(progress.waiting_left_s))
        return _tr("for {time} at most").format(time=left)
    if progress.converting is not None:
        # Done once: what earlier runs took says nothing about it.
        return _of_bytes(_tr("about {time} of converting left"), progress.bytes_left_s)
    if progress.remaining_s is None:
        return _of_bytes(_tr("about {time} of loading left"), progress.bytes_left_s)
    if progress.remaining_s < 1:
        return _tr("under 1 s left")
    left = countable_seconds(math.ceil(progress.remaining_s))
    return _tr("about {time} left").format(time=left)


def _of_bytes(text: str, left_s: float | None) -> str:
    """Time left of what is counted in bytes; the picture itself comes after it."""
    return "" if left_s is None else text.format(time=countable_seconds(math.ceil(left_s)))


def _tr(text: str) -> str:
    return QCoreApplication.translate("ProgressText", text)
