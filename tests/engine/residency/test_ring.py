"""The ring's places: neighbours never share a byte, and all places are known before."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.residency.copy_order import CopyOrder
from app.engine.residency.ring import Ring, least_slots_bytes

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=9)


@given(SIZES, st.integers(0, 30))
def test_neighbours_never_overlap_in_the_smallest_ring(sizes: list[int], more: int):
    capacity = least_slots_bytes(sizes) + more
    ring = Ring(sizes, capacity)
    known = set(ring.places())
    places: list[tuple[int, int]] = []
    for turn in range(6 * len(sizes)):
        index = turn % len(sizes)
        assert ring.index == index
        begin, end = ring.place()
        assert (begin, end) == (begin, begin + sizes[index])
        assert begin >= 0
        assert end <= capacity
        if turn < len(sizes) or not ring.holds_all:
            assert (index, begin) in known
            places.append((begin, end))
    for (begin, end), (at, until) in itertools.pairwise(places):
        assert end <= at or until <= begin
    if ring.holds_all:
        for (begin, end), (at, until) in itertools.combinations(places, 2):
            assert end <= at or until <= begin
        assert len(ring.places()) == len(sizes)


@given(SIZES)
def test_a_smaller_ring_is_refused(sizes: list[int]):
    with pytest.raises(ValueError, match="too small"):
        Ring(sizes, least_slots_bytes(sizes) - 1)


def test_the_ring_holds_as_many_small_blocks_as_have_room():
    """Two large blocks or four small ones."""
    sizes = [2, 2, 2, 1, 1, 1, 1, 1]
    order = CopyOrder(sizes, range(8), 4)
    turns: list[list[int]] = []
    for _block in range(16):
        copies = []
        while (copy := order.take()) is not None:
            copies.append(copy.turn)
        turns.append(copies)
        order.begin()
        order.end()
    assert turns[:8] == [[0, 1], [2], [3, 4], [5, 6], [7], [], [], [8]]


def test_what_has_a_place_of_its_own_comes_once():
    order = CopyOrder([3, 3, 3, 3], [1, 3], 6)
    turns: list[int] = []
    for _turn in range(12):
        while (copy := order.take()) is not None:
            turns.append(copy.turn)
        order.begin()
        order.end()
    assert turns == [1, 3]
    order.restart(2)
    copy = order.take()
    assert copy is not None
    assert copy.turn == 3


def test_a_pass_that_stands_alone_is_not_begun_before_its_turn():
    order = CopyOrder([1, 1, 1], range(3), 2, cyclic=False)
    taken: list[list[int]] = []
    for _turn in range(6):
        order.begin()
        now: list[int] = []
        while (copy := order.take()) is not None:
            now.append(copy.turn)
        order.end()
        while (copy := order.take()) is not None:
            now.append(copy.turn)
        taken.append(now)
    assert taken == [[0, 1, 2], [], [], [3, 4, 5], [], []]
