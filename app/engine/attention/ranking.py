"""Which kind of attention is best, by what trials of them gave."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.policy import Attention

EXACT_ERRORS = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}
"""Relative to exact attention, what the rounding of a type explains."""
AS_TORCH = 2.0
"""So many times the error of torch's own choice is as exact as that, whatever it is."""
USABLE_ERROR = 0.15
"""What a kind that was asked for by name may be off by: 8 bit kernels round visibly more."""
LEAN_FACTOR = 2.5
"""Memory of a fused kernel in sizes of its queries: its result, and some copies. It is what the
forecast reckons with; more is not taken unasked."""
WORTH = 0.95
"""Another than torch's own choice must take less than this share of its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One kind tried at one shape.

    Attributes:
        kind: Which.
        problem: Why it does not work, for people; "" when it does.
        error: Of its result, relative to exact attention.
        seconds: One call took; None when it was not timed.
        memory_bytes: It needed beside its inputs; None where that cannot be measured.
    """

    kind: Attention
    problem: str = ""
    error: float = 0.0
    seconds: float | None = None
    memory_bytes: int | None = None


def best_of(trials: Sequence[Trial], *, dtype: str, query_bytes: int) -> Attention | None:
    """The fastest that is as exact as torch's own and needs no more than the forecast says.

    Args:
        trials: Of one shape.
        dtype: Of the shape.
        query_bytes: Of the shape.

    Returns:
        The kind, or None when no kind that was tried will do.
    """
    worked = [trial for trial in trials if not trial.problem]
    own_error = max((one.error for one in worked if one.kind is Attention.SDPA), default=0.0)
    exact = max(EXACT_ERRORS[dtype], AS_TORCH * own_error)
    good = {
        trial.kind: trial.seconds
        for trial in worked
        if trial.seconds is not None
        and trial.error <= exact
        and (trial.memory_bytes is None or trial.memory_bytes <= LEAN_FACTOR * query_bytes)
    }
    if not good:
        return None
    fastest = min(good, key=lambda kind: good[kind])
    own_s = good.get(Attention.SDPA)
    if own_s is not None and good[fastest] >= WORTH * own_s:
        return Attention.SDPA
    return fastest
