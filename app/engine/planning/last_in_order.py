"""The last of a row for which something holds that holds for all before it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def last_in_order(items: Sequence[Item], holds: Callable[[Item], bool]) -> Item | None:
    """The last item for which it holds, or None when it holds for none.

    Args:
        items: In an order in which it holds up to some item, and for none behind.
        holds: Called for few of the items.
    """
    low, high = 0, len(items)
    while low < high:
        middle = (low + high) // 2
        if holds(items[middle]):
            low = middle + 1
        else:
            high = middle
    return items[low - 1] if low else None
