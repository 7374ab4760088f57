"""What was foreseen and what was done about it, in plain words for the status bar and the log."""

from app.core.events import (
    Downshifted,
    ImagesDeferred,
    RunResumed,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Phase
from app.core.plan import GenerationPlan, Rung
from app.core.units import format_bytes, format_seconds
from app.monitor.prediction import Prediction
from app.monitor.shortage import Cause, Shortage

_DOING = {
    Phase.LOAD: "loading the model",
    Phase.ENCODE: "reading the prompt",
    Phase.DENOISE: "denoising",
    Phase.DECODE: "decoding",
    Phase.SAVE: "saving",
}
_GAVE_WAY = {
    Rung.STREAM: "Weights come in as they are needed",
    Rung.TILE: "The images are decoded in smaller pieces",
    Rung.SPLIT: "The batch runs in parts",
    Rung.FEWER: "Fewer images are made now, the rest is queued",
    Rung.SMALLER: "The images are made smaller",
}


def shortage_sentence(shortage: Shortage) -> str:
    """What is seen and what would come of it."""
    took, short = format_bytes(shortage.took_bytes), format_bytes(shortage.short_bytes)
    match shortage.cause:
        case Cause.OTHERS:
            seen = f"Another program took {took} of the GPU's memory"
        case Cause.GROWTH:
            seen = f"This run uses {took} more of the GPU's memory than planned"
        case Cause.SPILL:
            return (
                f"Windows moved {took} of the GPU's memory into RAM, because the GPU is full: "
                f"{_DOING[shortage.phase]} becomes many times slower."
            )
        case Cause.RAM:
            seen = "The computer's RAM runs out"
    doing = _DOING[shortage.phase]
    if shortage.growing and shortage.in_s > 0:
        seconds = max(1, round(shortage.in_s))
        when = f"{seconds} s" if seconds < 60 else format_seconds(seconds)
        return f"{seen}, and it goes on: {doing} would run out of memory in about {when}."
    return f"{seen}: {doing} would be {short} short."


def foreseen_sentence(prediction: Prediction) -> str:
    """What was foreseen, and what is done about it."""
    seen = prediction.sentence.rstrip(".")
    return f"{seen}. The run takes less from now on, if it can."


def downshift_sentence(event: Downshifted) -> str:
    """What gave way, from what to what, and why."""
    change = f"{event.before} → {event.after}" if event.before else event.after
    return f"{_GAVE_WAY[event.rung]} ({change}). {event.reason}"


def waiting_sentence(event: WaitingForMemory) -> str:
    """What is waited for, and who has it."""
    return (
        f"Waiting for {format_bytes(event.missing_bytes)} of GPU memory: "
        f"other programs hold {format_bytes(event.others_bytes)}"
    )


def waited_sentence(event: WaitedForMemory) -> str:
    """How the waiting ended."""
    if event.enough:
        return f"GPU memory is free again after {format_seconds(event.seconds)}: the run goes on."
    return f"GPU memory did not become free within {format_seconds(event.seconds)}."


def resumed_sentence(event: RunResumed) -> str:
    """Where the run goes on."""
    return f"The run goes on after step {event.step} of {event.steps}; nothing is done twice."


def deferred_sentence(event: ImagesDeferred) -> str:
    """What is made later, and why."""
    what = "1 image is" if event.images == 1 else f"{event.images} images are"
    return f"{what} made afterwards, as a job of its own. {event.reason}"


def plan_sentence(plan: GenerationPlan) -> str:
    """The plan in one line, for the log."""
    parts = [
        f"{plan.verdict.value}: {plan.images} image(s) of {plan.width_px}x{plan.height_px}",
        f"peak {format_bytes(plan.peak_vram_bytes)} of {format_bytes(plan.budget_bytes)}",
        f"about {format_seconds(plan.seconds)}",
    ]
    if plan.batch < plan.images:
        parts.append(f"{plan.batch} at once")
    if plan.tile_px is not None:
        parts.append(f"decode in tiles of {plan.tile_px} px")
    if plan.decode_on_cpu:
        parts.append("decode on the CPU")
    return ", ".join(parts)
