"""Where in a row something begins or ceases to hold, found without asking all of it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def last_in_order(items: Sequence[Item], holds: Callable[[Item], bool]) -> Item | None:
    """The last item for which it holds, or None when it holds for none.

    Args:
        items: In an order in which it holds up to some item, and for none behind.
        holds: Called for few of the items.
    """
    count = _count_before(items, lambda item: not holds(item))
    return items[count - 1] if count else None


def first_in_order(items: Sequence[Item], holds: Callable[[Item], bool]) -> Item | None:
    """The first item for which it holds, or None when it holds for none.

    Args:
        items: In an order in which it holds from some item on, for all behind it.
        holds: Called for few of the items.
    """
    count = _count_before(items, holds)
    return items[count] if count < len(items) else None


def _count_before(items: Sequence[Item], ends: Callable[[Item], bool]) -> int:
    """How many items come before the first for which `ends` is true."""
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if ends(items[middle]):
            high = middle
        else:
            low = middle + 1
    return low
