"""A pass told quickly is the pass that the timeline plays."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.engine.planning import pass_seconds as module
from app.engine.planning.block_residency import block_residencies
from app.engine.planning.copies import copies_of, played_seconds
from app.engine.planning.pass_seconds import pass_seconds, read_pass_seconds
from app.engine.residency.timeline import step_seconds

stacks = st.tuples(st.integers(0, 6), st.integers(3, 16)).map(
    lambda counts: (200,) * counts[0] + (100,) * counts[1]
)


@settings(max_examples=150, deadline=None)
@given(stacks, st.integers(0, 1000), st.floats(0.1, 4))
def test_a_pass_is_that_of_the_timeline(
    blocks: tuple[int, ...], choice: int, computing_over_copying: float
) -> None:
    ways = block_residencies(blocks)
    assume(ways)
    way = ways[choice % len(ways)]
    computing_s = computing_over_copying * sum(blocks) / 1000
    told_s = pass_seconds(blocks, way.streamed_blocks, way.slots_bytes, computing_s, 1000.0, True)
    played_s = step_seconds(
        [computing_s / len(blocks)] * len(blocks),
        blocks,
        way.streamed_blocks,
        way.slots_bytes,
        1000.0,
    ).seconds
    copies = copies_of(blocks, way.streamed_blocks, way.slots_bytes, True)
    assert played_seconds(copies, computing_s / len(blocks), 1000.0, cyclic=True) == played_s
    # What is copied ahead before the passes that are measured may be missing in them.
    assert max(told_s, way.streamed_bytes / 1000) == pytest.approx(
        max(played_s, way.streamed_bytes / 1000)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=3, max_size=14), st.integers(0, 1000), st.floats(1, 9)
)
def test_copies_told_once_are_those_of_the_timeline_to_the_last_bit(
    sizes: list[int], choice: int, computing_s: float
) -> None:
    blocks = tuple(sizes)
    ways = block_residencies(blocks)
    assume(ways)
    way = ways[choice % len(ways)]
    for cyclic in (True, False):
        played_s = step_seconds(
            [computing_s / len(blocks)] * len(blocks),
            blocks,
            way.streamed_blocks,
            way.slots_bytes,
            100.0,
            cyclic=cyclic,
        ).seconds
        copies = copies_of(blocks, way.streamed_blocks, way.slots_bytes, cyclic)
        assert played_seconds(copies, computing_s / len(blocks), 100.0, cyclic=cyclic) == played_s


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=3, max_size=14),
    st.integers(0, 1000),
    st.floats(1, 9),
    st.floats(10, 300),
    st.sets(st.integers(0, 13)),
    st.booleans(),
)
def test_blocks_that_are_read_come_as_by_the_timeline_to_the_last_bit(
    sizes: list[int],
    choice: int,
    computing_s: float,
    read_bytes_per_s: float,
    read: set[int],
    cyclic: bool,
) -> None:
    blocks = tuple(sizes)
    ways = block_residencies(blocks)
    assume(ways)
    way = ways[choice % len(ways)]
    from_disk = tuple(block for block in way.streamed_blocks if block in read)
    played_s = step_seconds(
        [computing_s / len(blocks)] * len(blocks),
        blocks,
        way.streamed_blocks,
        way.slots_bytes,
        100.0,
        cyclic=cyclic,
        read_s={block: blocks[block] / read_bytes_per_s for block in from_disk},
    ).seconds
    told_s = read_pass_seconds(
        blocks,
        way.streamed_blocks,
        way.slots_bytes,
        computing_s,
        100.0,
        cyclic,
        from_disk,
        read_bytes_per_s,
    )
    assert told_s == played_s


@pytest.mark.parametrize(("computing_s", "seconds"), [(20.0, 20.0), (1.0, 8.0)])
def test_where_one_hides_the_other_nothing_is_played(
    computing_s: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "played_seconds", None)
    assert pass_seconds((10,) * 8, tuple(range(8)), 20, computing_s, 10.0, True) == seconds


def test_a_pass_by_itself_waits_for_its_first_block() -> None:
    alone_s = pass_seconds((10,) * 4, (0, 1, 2, 3), 20, 4.0, 10.0, False)
    assert alone_s == pytest.approx(5.0)
