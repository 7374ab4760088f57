"""A plan in words: the chip, its explanation, and what is said of a model."""

import math

from PySide6.QtCore import QCoreApplication

from app.core.jobs import DEFAULT_WAIT_S
from app.core.plan import GenerationPlan, Rung, Verdict
from app.core.units import GIB, MIB, format_need, format_seconds
from app.ui.models.plan_inputs import Cost

SMALL_BYTES = 52 * MIB
"""Less would be "0.0 GB" or a guess."""
_SMALL_S = 0.5


def verdict_word(verdict: Verdict) -> str:
    """A verdict in a word or three."""
    return {
        Verdict.FITS: _tr("Fits"),
        Verdict.STREAMS: _tr("Fits with streaming"),
        Verdict.SMALLER: _tr("Fits smaller"),
        Verdict.DOES_NOT_FIT: _tr("Does not fit"),
    }[verdict]


def short_word(verdict: Verdict) -> str:
    """A verdict in one word, where there is little room; its icon says the rest."""
    return {
        Verdict.FITS: _tr("Fits"),
        Verdict.STREAMS: _tr("Streams"),
        Verdict.SMALLER: _tr("Smaller"),
        Verdict.DOES_NOT_FIT: _tr("Does not fit"),
    }[verdict]


def chip_text(plan: GenerationPlan, *, short: bool = False) -> str:
    """The verdict in one short line: "Fits · 9.1 of 11.2 GB · about 40 s"."""
    parts = [short_word(plan.verdict) if short else verdict_word(plan.verdict)]
    if plan.verdict is Verdict.DOES_NOT_FIT:
        if plan.missing_bytes:
            parts.append(_tr("{size} missing").format(size=gb(_rounded_up(plan.missing_bytes))))
        return " · ".join(parts)
    if plan.verdict is Verdict.SMALLER:
        parts.append(made_words(plan))
    parts += [peak_words(plan), about(plan.seconds)]
    return " · ".join(parts)


def chip_texts(plan: GenerationPlan) -> tuple[str, ...]:
    """The verdict in one line, each shorter than the one before; the last has no figures of memory.

    What gives way in the picture, and the time, are worth more than how full the memory is.
    """
    short = chip_text(plan, short=True)
    shortest = short.replace(f" · {peak_words(plan)}", "")
    return (chip_text(plan), short, shortest)


def made_words(plan: GenerationPlan) -> str:
    """What will be made: "768 × 768" or "2 of 4 images"."""
    if any(change.rung is Rung.SMALLER for change in plan.changes):
        return _tr("{width} × {height}").format(width=plan.width_px, height=plan.height_px)
    return _tr("{now} of {all} images").format(now=plan.images, all=plan.images + plan.images_later)


def peak_words(plan: GenerationPlan) -> str:
    """What is needed of what may be used: "9.1 of 11.2 GB"."""
    peak, budget = format_need(plan.needed_bytes, plan.budget_bytes)
    return _tr("{peak} of {budget}").format(peak=peak, budget=f"{budget} GB")


def about(seconds: float) -> str:
    """A duration nobody knows exactly."""
    if seconds < 1:
        return _tr("under 1 s")
    return _tr("about {time}").format(time=_roughly(seconds))


def time_words(plan: GenerationPlan) -> str:
    """How long it takes, as a range, in a sentence."""
    low = sum(phase.seconds_low for phase in plan.phases)
    high = sum(phase.seconds_high for phase in plan.phases)
    if high <= 0:
        return ""
    if high < 1:
        return _tr("Takes {time}.").format(time=about(high))
    least, most = _roughly(math.floor(low)), _roughly(math.ceil(high))
    if least == most:
        return _tr("Takes {time}.").format(time=about(high))
    return _tr("Takes {low} to {high}.").format(low=least, high=most)


def waits_words() -> str:
    """What Generate does where only other programs are in the way."""
    time = _roughly(DEFAULT_WAIT_S)
    return _tr("Generate waits for other programs to give memory back, {time} at most.").format(
        time=time
    )


def cost_text(cost: Cost) -> str:
    """What a value costs: "+1.6 GB, +4 s"; "" where it costs nothing worth saying."""
    parts: list[str] = []
    if abs(cost.bytes) >= SMALL_BYTES:
        parts.append(_signed(cost.bytes) + gb(abs(cost.bytes)))
    if abs(cost.seconds) >= _SMALL_S:
        parts.append(_signed(cost.seconds) + _roughly(abs(cost.seconds)))
    return ", ".join(parts)


def spoken(plan: GenerationPlan) -> str:
    """The verdict in a sentence, for screen readers."""
    if plan.verdict is Verdict.DOES_NOT_FIT:
        first = plan.reasons[0] if plan.reasons else ""
        return first or verdict_word(plan.verdict)
    return _tr("{verdict}: needs {peak}, takes {time}.").format(
        verdict=verdict_word(plan.verdict), peak=peak_words(plan), time=about(plan.seconds)
    )


def model_words(plan: GenerationPlan, *, on_cpu: bool) -> str:
    """What is said of a model that might be used: would it fit on this machine?"""
    where = _tr("on this computer's CPU") if on_cpu else _tr("on this GPU")
    if plan.verdict is Verdict.DOES_NOT_FIT:
        missing = _tr(" {size} are missing.").format(size=gb(_rounded_up(plan.missing_bytes)))
        said = _tr("It would not fit {where} now.").format(where=where)
        return said + missing if plan.missing_bytes else said
    how = {
        Verdict.FITS: _tr("It would fit {where}"),
        Verdict.STREAMS: _tr("It would fit with streaming {where}"),
        Verdict.SMALLER: _tr("It would fit smaller {where}"),
    }[plan.verdict].format(where=where)
    return _tr("{how}: {peak} at {width} × {height} px, {time} for a picture.").format(
        how=how,
        peak=peak_words(plan),
        width=plan.width_px,
        height=plan.height_px,
        time=about(plan.seconds),
    )


def gb(size_bytes: int) -> str:
    """A size: "1.6 GB", and "120 MB" below a tenth."""
    if size_bytes < GIB // 10:
        return _tr("{size} MB").format(size=round(size_bytes / MIB))
    return _tr("{size} GB").format(size=f"{size_bytes / GIB:.1f}")


def _roughly(seconds: float) -> str:
    """A duration as exactly as anybody knows it: seconds, tens of seconds, or minutes."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    tens = 10 * round(seconds / 10)
    if seconds < 5 * 60 and tens % 60:
        return format_seconds(float(tens))
    if seconds < 60 * 60:
        return _tr("{n} min").format(n=round(seconds / 60))
    return format_seconds(seconds)


def _rounded_up(size_bytes: int) -> int:
    """To a tenth of a GB, as it is written, so that nobody frees too little."""
    return math.ceil(size_bytes * 10 / GIB) * GIB // 10


def _signed(value: float) -> str:
    return "+" if value >= 0 else "\N{MINUS SIGN}"


def _tr(text: str) -> str:
    return QCoreApplication.translate("Plan", text)
