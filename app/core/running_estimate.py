"""What a few measured ratios say about the next one, when any of them may be a wild one.

Ratios are kept as natural logarithms, so that half and double weigh the same. A window of the last
ones is all there is: a middle, an upper bound and a spread are read off it anew each time.
"""

import math
import statistics
from collections.abc import Sequence

WINDOW = 24
"""Ratios that are kept; an unusual run is forgotten after so many more."""
CLOSE = 0.15
"""A ratio this near to the others' middle is never a wild one."""
HIGHEST = math.log(1000.0)
"""More is no measurement but a mistake."""
_PRIOR = 2
"""Runs that the forecast itself counts for, until measured ones take their place."""
_MAD_TO_DEVIATION = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""
_FAR = 4.0


def added(ratios: Sequence[float], ratio: float) -> tuple[float, ...]:
    """The window with one more ratio.

    Two in a row that agree with each other and with nothing before mean that something has changed
    (another driver setting, another build): what was before is forgotten.

    Args:
        ratios: Logarithms so far, the oldest first.
        ratio: Measured over predicted; not a logarithm.

    Returns:
        Logarithms, at most WINDOW.
    """
    new = min(HIGHEST, max(-HIGHEST, math.log(ratio)))
    window = (*ratios, new)[-WINDOW:]
    last = window[-2:]
    earlier = window[:-2]
    if len(earlier) >= 2 and abs(last[0] - last[1]) <= CLOSE:
        near = usual(earlier)
        middle = statistics.median(near)
        reach = _reach(near)
        if all(abs(value - middle) > reach for value in last):
            return last
    return window


def usual(ratios: Sequence[float]) -> tuple[float, ...]:
    """The ratios without the wild ones; with fewer than three, the forecast itself has a say."""
    if not ratios:
        return ()
    prior = (0.0,) * max(0, _PRIOR - len(ratios) + 1)
    middle = statistics.median((*ratios, *prior))
    reach = _reach((*ratios, *prior))
    return tuple(value for value in ratios if abs(value - middle) <= reach)


def upper(ratios: Sequence[float]) -> float:
    """A factor that none of the usual ratios exceeds.

    More than forecast counts at once and in full. Less than forecast counts the more, the more
    often it was seen: a forecast may be a little too high, but never too low.
    """
    near = usual(ratios)
    if not near:
        return 1.0
    highest = max(near)
    if highest < 0:
        highest *= len(near) / (len(near) + _PRIOR)
    return math.exp(highest)


def middle(ratios: Sequence[float]) -> float:
    """The factor that as many ratios exceed as stay below; 1.0 where nothing was measured."""
    return math.exp(statistics.median(ratios)) if ratios else 1.0


def spread(ratios: Sequence[float], *, unmeasured: float) -> float:
    """How far the next ratio may be from the middle: less with each run that agrees.

    Args:
        ratios: Logarithms.
        unmeasured: The spread where nothing was measured.
    """
    near = usual(ratios)
    deviation = _deviation(near) if near else 0.0
    return deviation + unmeasured / (1 + len(near))


def _reach(values: Sequence[float]) -> float:
    return max(CLOSE, _FAR * _deviation(values))


def _deviation(values: Sequence[float]) -> float:
    centre = statistics.median(values)
    return _MAD_TO_DEVIATION * statistics.median(abs(value - centre) for value in values)
