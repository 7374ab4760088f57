"""The rules of torch's caching allocator, against what torch documents and is known to do."""

import itertools
import random

import pytest

from app.core.units import MIB
from bench.verdicts_parts.allocator import Block, CachingAllocator, RoomError


class Driver:
    """A card of a size."""

    def __init__(self, room_bytes: int) -> None:
        self.left_bytes = room_bytes

    def __call__(self, size_bytes: int) -> bool:
        if size_bytes > self.left_bytes:
            return False
        self.left_bytes -= size_bytes
        return True


def allocator(*, expandable: bool, room_bytes: int = 1 << 40) -> CachingAllocator:
    return CachingAllocator(Driver(room_bytes), expandable=expandable)


both = pytest.mark.parametrize("expandable", [False, True])


@pytest.mark.parametrize(
    ("asked_bytes", "reserved_bytes"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (9 * MIB, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (25 * MIB - 1, 26 * MIB),
    ],
)
def test_segments_are_of_the_sizes_that_torch_takes(asked_bytes, reserved_bytes):
    found = allocator(expandable=False)

    found.take(asked_bytes)

    assert found.reserved_bytes == reserved_bytes


@pytest.mark.parametrize(
    ("asked_bytes", "reserved_bytes"), [(1, 2 * MIB), (3 * MIB, 20 * MIB), (41 * MIB, 60 * MIB)]
)
def test_expandable_segments_grow_in_pieces(asked_bytes, reserved_bytes):
    found = allocator(expandable=True)

    found.take(asked_bytes)

    assert found.reserved_bytes == reserved_bytes


@both
def test_what_is_given_back_is_used_again(expandable):
    found = allocator(expandable=expandable)
    for _ in range(5):
        found.give(found.take(64 * MIB))

    assert found.reserved_bytes <= 80 * MIB
    assert found.allocated_bytes == 0


@both
def test_neighbours_that_are_free_become_one(expandable):
    found = allocator(expandable=expandable)
    whole = found.take(100 * MIB)
    found.give(whole)
    parts = [found.take(25 * MIB) for _ in range(4)]
    for part in parts:
        found.give(part)
    reserved_bytes = found.reserved_bytes

    found.take(100 * MIB)

    assert found.reserved_bytes == reserved_bytes


def test_segments_in_use_cannot_grow_but_a_range_of_addresses_can():
    """What expandable segments are for: 60 and 60 MiB free side by side serve 120 MiB."""
    reserved = {}
    for expandable in (False, True):
        found = allocator(expandable=expandable)
        first, second = found.take(60 * MIB), found.take(60 * MIB)
        found.give(first)
        found.give(second)
        found.take(120 * MIB)
        reserved[expandable] = found.reserved_bytes

    assert reserved == {False: 240 * MIB, True: 120 * MIB}


@both
def test_free_memory_goes_back_to_the_driver_before_memory_has_run_out(expandable):
    found = allocator(expandable=expandable, room_bytes=200 * MIB)
    kept = found.take(40 * MIB)
    found.give(found.take(140 * MIB))

    found.take(150 * MIB)

    assert kept.used
    assert found.reserved_bytes <= 200 * MIB
    with pytest.raises(RoomError):
        found.take(30 * MIB)


def test_a_segment_of_which_a_part_is_used_stays():
    found = allocator(expandable=False, room_bytes=110 * MIB)
    found.give(found.take(100 * MIB))
    part = found.take(30 * MIB)

    with pytest.raises(RoomError):
        found.take(80 * MIB)

    found.give(part)
    found.take(80 * MIB)


@both
def test_the_accounts_agree_after_any_row_of_requests(expandable):
    chance = random.Random(7)
    found = allocator(expandable=expandable, room_bytes=3000 * MIB)
    held: list[Block] = []
    for _ in range(3000):
        if held and (chance.random() < 0.5 or found.allocated_bytes > 1500 * MIB):
            found.give(held.pop(chance.randrange(len(held))))
        else:
            held.append(found.take(int(2 ** chance.uniform(6, 27))))
        spans = sorted((id(block.pool), block.begin, block.size) for block in held)
        if not expandable:
            assert found.allocated_bytes == sum(block.size for block in held)
            continue
        assert all(
            one != other or begin + size <= next_begin
            for (one, begin, size), (other, next_begin, _) in itertools.pairwise(spans)
        )
        assert found.allocated_bytes == sum(block.size for block in held) <= found.reserved_bytes

    for block in held:
        found.give(block)
    found.release_cached()

    assert (found.allocated_bytes, found.reserved_bytes) == (0, 0)
