"""A plan's verdict and its reasons, in sentences for people."""

import math
from collections.abc import Iterable

from app.core.plan import PICTURE_KEEPING, GenerationPlan, PlanChange, Verdict
from app.core.policy import MemoryMode
from app.core.units import GIB, format_bytes, format_need, format_seconds
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER
from app.engine.planning.figures import and_list, gigabytes, size_text
from app.engine.planning.mode_words import MODE_WORDS
from app.engine.planning.precisions import PRECISION_WORDS, as_stored_words, file_bytes
from app.engine.planning.problem import PlanProblem
from app.engine.planning.ram import swapped_bytes, unheld_bytes
from app.engine.planning.way import Way, running

LEAST_PERCENT = 1
MOST_PERCENT = 100
"""From here on it is told as a multiple."""
MIN_S = 1e-6
SMALL_BYTES = 100 << 20
"""Less than a tenth of a GB."""


def reasons_of(
    problem: PlanProblem, plan: GenerationPlan, *, streaming_s: float
) -> tuple[str, ...]:
    """What is to be said about a plan that fits; the verdict first.

    Args:
        problem: What was planned.
        plan: The answer, with its changes.
        streaming_s: Of its seconds, what it would save not to stream.
    """
    sentences = [_verdict(problem, plan, streaming_s)]
    if problem.precision_reason:
        sentences.append(problem.precision_reason)
    as_stored = as_stored_words(problem.coefficients, problem.policy)
    if as_stored:
        sentences.append(as_stored)
    sentences += _at_hand(problem)
    sentences += _changes(plan.changes)
    if not problem.on_cpu:
        unheld = unheld_bytes(problem, (*running(problem), AUTOENCODER))
        if unheld and not any(part.file_blocks for part in plan.components):
            sentences.append(
                f"RAM does not hold all weights: {gigabytes(unheld, up=True)} GB of them are read "
                "from the disk each time they go to the GPU."
            )
        swapped = swapped_bytes(problem, plan.ram_peak_bytes)
        if swapped:
            needed, free = format_need(plan.ram_peak_bytes, problem.ram_calm_bytes)
            sentences.append(
                f"RAM is short: {needed} GB are needed and {free} GB are free, so "
                f"{gigabytes(swapped, up=True)} GB go to the page file or swap, which is slow."
            )
    sentences.append(_certainty(plan))
    return tuple(dict.fromkeys(sentences))


def refusal(
    problem: PlanProblem, least: Way, *, size: tuple[int, int] | None, images: int
) -> tuple[str, ...]:
    """Why nothing fits, what is missing, and what would fit.

    Args:
        problem: What was planned.
        least: The way that needs least.
        size: The largest size of the ratio that would fit, if any.
        images: How many images of the size asked for would fit.
    """
    request = problem.request
    sentences = [_missing(problem, least)]
    if images and problem.policy.strict:
        sentences.append(f"{images} of the {request.images} images would fit.")
    if size is not None:
        sentences.append(f"It would fit at {size_text(*size)}.")
    if problem.policy.strict and (images or size is not None):
        sentences.append("Strict mode forbids fewer images and smaller sizes.")
    elif problem.policy.mode is MemoryMode.RESIDENT and not problem.on_cpu:
        weights = sum(problem.weights[name] for name in COMPONENTS)
        sentences.append(
            f"“{MODE_WORDS[MemoryMode.RESIDENT]}” keeps all weights "
            f"({gigabytes(weights, up=True)} GB) on the GPU: choose "
            f"“{MODE_WORDS[MemoryMode.AUTO]}” to let them come and go."
        )
    else:
        sentences.append(_ways_out(problem))
    return tuple(sentences)


def _changes(changes: Iterable[PlanChange]) -> list[str]:
    """Why something gives way, and what: "With the whole transformer, ... are needed: ...".

    Fewer and smaller pictures stand in the verdict.
    """
    ways: dict[str, list[str]] = {}
    for change in changes:
        after = [change.after] if change.rung in PICTURE_KEEPING else []
        ways.setdefault(change.reason, []).extend(after)
    return [
        f"{reason.removesuffix('.')}: {'; '.join(after)}." if after else reason
        for reason, after in ways.items()
    ]


def _ways_out(problem: PlanProblem) -> str:
    limit = problem.policy.limit_bytes
    if limit is not None and limit == problem.budget_bytes:
        first = f"Allow more than {gigabytes(limit)} GB"
    else:
        first = "Close other programs, leave less memory to them"
    fewer = " give fewer reference images," if problem.references else ""
    return f"{first},{fewer} or choose a smaller model."


def _at_hand(problem: PlanProblem) -> list[str]:
    """What is made once, and what need not be made again."""
    sentences: list[str] = []
    coefficients = problem.coefficients
    if problem.prompts_known:
        precision = problem.precisions[TEXT_ENCODER]
        size_bytes = file_bytes(coefficients, TEXT_ENCODER, precision)
        sentences.append(
            "The prompt was drawn before and its embeddings are kept: the text encoder "
            f"({format_bytes(size_bytes)}) is not loaded."
        )
    if problem.to_convert:
        stored = coefficients.stored_precision
        read = sum(file_bytes(coefficients, name, stored) for name in problem.to_convert)
        kept = sum(
            file_bytes(coefficients, name, problem.precisions[name]) for name in problem.to_convert
        )
        sentences.append(
            f"Before the first run the weights are converted once: {format_bytes(read)} are read, "
            f"and {format_bytes(kept)} are kept on the disk."
        )
    elif problem.converted:
        precisions = dict.fromkeys(problem.precisions[name] for name in problem.converted)
        words = and_list([PRECISION_WORDS[precision] for precision in precisions])
        sentences.append(f"The weights in {words} are kept on the disk: nothing is converted.")
    return sentences


def _verdict(problem: PlanProblem, plan: GenerationPlan, streaming_s: float) -> str:
    needed, budget = format_need(plan.needed_bytes, plan.budget_bytes)
    figures = f"needs {needed} of {budget} GB"
    match plan.verdict:
        case Verdict.STREAMS:
            return f"Fits with streaming: {figures}; {_cost(plan.seconds, streaming_s)}."
        case Verdict.SMALLER:
            request = problem.request
            asked = f"{request.images} of {size_text(request.width_px, request.height_px)}"
            made = f"{plan.images} of {size_text(plan.width_px, plan.height_px)}"
            return f"Fits smaller: {made} instead of {asked}; {figures}."
        case _:
            return f"Fits: {figures}."


def _cost(seconds: float, streaming_s: float) -> str:
    """What streaming costs of a run's time: "streaming costs +3 % of time (0.4 s)"."""
    without_s = max(seconds - streaming_s, MIN_S)
    percent = 100 * streaming_s / without_s
    if percent < LEAST_PERCENT:
        return f"streaming costs less than {LEAST_PERCENT} % of time"
    if percent >= MOST_PERCENT:
        return f"streaming makes it take {seconds / without_s:.1f} times as long"
    return f"streaming costs +{percent:.0f} % of time ({format_seconds(streaming_s)})"


def _certainty(plan: GenerationPlan) -> str:
    off = max(phase.uncertainty_bytes for phase in plan.phases)
    runs = plan.measured_runs
    times = "once" if runs == 1 else f"{runs} times"
    basis = f"measured here {times}" if runs else "not measured here yet"
    return f"The forecast ({basis}) may be off by {gigabytes(off, up=True)} GB, which is counted."


def _lacking(needed_bytes: int, budget_bytes: int) -> tuple[str, str, str]:
    """What is needed, what may be used, and what is missing, so that the sum comes out.

    What is needed is rounded up and what there is down, so that nobody frees too little; small
    amounts are told as they are.
    """
    missing_bytes = max(0, needed_bytes - budget_bytes)
    if missing_bytes < SMALL_BYTES:
        return (*format_need(needed_bytes, budget_bytes), format_bytes(missing_bytes))
    needed, budget = math.ceil(needed_bytes * 10 / GIB), math.floor(budget_bytes * 10 / GIB)
    return f"{needed / 10:.1f}", f"{budget / 10:.1f}", f"{(needed - budget) / 10:.1f} GB"


def _missing(problem: PlanProblem, least: Way) -> str:
    request = problem.request
    if not problem.allows_size(request.width_px, request.height_px) and not least.missing_bytes(
        problem
    ):
        size = size_text(request.width_px, request.height_px)
        return f"Does not fit: the preset allows no size as large as {size}."
    what = "" if problem.policy.strict else " even as one small picture"
    ram_budget = problem.ram_budget_bytes
    needed = max(phase.needed_bytes for phase in least.phases(problem))
    if least.ram_bytes - ram_budget > needed - problem.budget_bytes:
        needed_text, budget, missing = _lacking(least.ram_bytes, ram_budget)
        return (
            f"Does not fit: {needed_text} GB of RAM are needed{what}, "
            f"{budget} GB may be used with the page file or swap; {missing} are missing."
        )
    memory = "RAM" if problem.on_cpu else "GPU memory"
    needed_text, budget, missing = _lacking(needed, problem.budget_bytes)
    return (
        f"Does not fit: {needed_text} GB of {memory} are needed{what}, "
        f"{budget} GB may be used; {missing} are missing."
    )
