"""The timeline foretells what the streamer does: the same rules by other means, on a clock."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.residency.host_block import HostTier
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.timeline import MEASURED_PASSES, WARM_UP_PASSES, StepTime, step_seconds
from tests.fakes.streamed_clock import LAYERS, SIZES, HostSide, Streamed

BLOCKS = range(len(LAYERS))

HOST_SIDES = st.one_of(
    st.just(HostSide()),
    st.builds(
        HostSide,
        tiers=st.lists(st.sampled_from(HostTier), min_size=len(LAYERS), max_size=len(LAYERS)),
        locked=st.booleans(),
        read_s=st.lists(st.integers(0, 12), min_size=len(LAYERS), max_size=len(LAYERS)),
    ),
)


@pytest.mark.parametrize("cyclic", [True, False])
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=len(LAYERS), max_size=len(LAYERS)),
    st.sets(st.sampled_from(BLOCKS), min_size=1).map(sorted),
    st.integers(0, 16),
    st.sampled_from((0.5, 1.0, 3.0)),
    HOST_SIDES,
)
def test_what_is_foretold_is_what_the_streamer_takes(
    cyclic: bool,
    compute_s: list[int],
    streamed: list[int],
    more: int,
    blocks_per_s: float,
    host_side: HostSide,
):
    if cyclic:
        # What stays comes in the first passes, too, and nobody foretells that.
        host_side = replace(
            host_side,
            tiers=[
                tier if b in streamed else HostTier.PINNED for b, tier in enumerate(host_side.tiers)
            ],
        )
    else:
        streamed = list(BLOCKS)
    slots = least_slots_bytes([SIZES[block] for block in streamed]) + more * 512
    bytes_per_s = blocks_per_s * SIZES[-1]
    expected = step_seconds(
        compute_s,
        SIZES,
        streamed,
        slots,
        bytes_per_s,
        cyclic=cyclic,
        read_s={b: s for b, s in host_side.bouncing.items() if b in streamed},
        blocking=host_side.blocking,
    )
    with Streamed(
        compute_s, streamed, slots, bytes_per_s, cyclic=cyclic, host_side=host_side
    ) as running:
        if cyclic:
            running.passes(WARM_UP_PASSES)
        seen = running.passes(MEASURED_PASSES if cyclic else 1)
    assert seen.seconds == pytest.approx(expected.seconds)
    assert seen.waited_s == pytest.approx(expected.waited_s, abs=1e-9)
    assert expected.seconds == pytest.approx(sum(compute_s) + expected.waited_s)


def test_blocks_of_ordinary_ram_hide_as_pinned_ones_do():
    """The readers copy within RAM faster than the link: nothing of it is seen."""
    sizes, compute_s = [1] * 24, [1.0] * 24
    pinned = step_seconds(compute_s, sizes, range(24), 3, 1.0)
    bounced = step_seconds(
        compute_s, sizes, range(24), 3, 1.0, read_s=dict.fromkeys(range(24), 0.4)
    )
    assert bounced.seconds == pytest.approx(pinned.seconds) == pytest.approx(24.0)


def test_a_disk_that_is_slower_than_the_link_is_waited_for():
    sizes, compute_s = [1] * 24, [1.0] * 24
    read_s = dict.fromkeys(range(0, 24, 2), 3.0)
    found = step_seconds(compute_s, sizes, range(24), 3, 2.0, read_s=read_s)
    assert found.seconds == pytest.approx(12 * 3.0)


def test_copies_that_keep_the_host_hide_as_far_as_they_can():
    """Without any pinned memory: a block is copied while the one before it computes."""
    sizes, compute_s = [1] * 24, [1.0] * 24
    found = step_seconds(compute_s, sizes, range(24), 3, 1.25, blocking=range(24))
    assert found.seconds == pytest.approx(24.0)
    slow = step_seconds(compute_s, sizes, range(24), 3, 0.5, blocking=range(24))
    assert slow.seconds == pytest.approx(48.0)


def test_streaming_hides_behind_computing_that_takes_as_long():
    """A large model: 8 blocks of twice the size of 48 others, all of them streamed."""
    sizes = [2] * 8 + [1] * 48
    compute_s = [2.0] * 8 + [1.0] * 48
    hidden = step_seconds(compute_s, sizes, range(56), 4, 1.0)
    assert hidden == StepTime(seconds=64.0, waited_s=0.0, copying_s=64.0)
    slow = step_seconds(compute_s, sizes, range(56), 4, 0.5)
    assert slow == StepTime(seconds=128.0, waited_s=64.0, copying_s=128.0)


def test_blocks_that_stay_are_best_spread_over_the_stack():
    sizes, compute_s = [1] * 24, [1.0] * 24
    spread = step_seconds(compute_s, sizes, range(0, 24, 2), 2, 0.5)
    at_the_end = step_seconds(compute_s, sizes, range(12), 2, 0.5)
    assert spread.seconds == 24.0
    assert at_the_end.seconds > 30.0


def test_a_pass_alone_waits_for_its_first_block():
    assert step_seconds([1.0] * 4, [2] * 4, range(4), 4, 2.0, cyclic=False) == StepTime(
        seconds=5.0, waited_s=1.0, copying_s=4.0
    )


def test_nothing_streamed_takes_no_time():
    assert step_seconds([1.0, 2.0], [5, 5], (), 0, 1.0) == StepTime(
        seconds=3.0, waited_s=0.0, copying_s=0.0
    )


def test_blocks_that_stay_are_read_as_far_ahead_as_there_are_buffers():
    """From the disk, in the first pass: three are read while a long one computes."""
    count = len(LAYERS)
    side = HostSide(tiers=[HostTier.FILE] * count, read_s=[2.0] * count)
    compute_s = [1.0, 8.0] + [1.0] * (count - 2)
    with Streamed(compute_s, (), 0, 1e12, host_side=side) as running:
        # Two are waited for: at the beginning, and one of the last three.
        assert running.passes(1).seconds == pytest.approx(sum(compute_s) + 3.0)


def test_blocks_through_locked_buffers_are_brought_as_far_ahead_as_pinned_ones():
    """While a long block computes, not only one more is begun."""
    count = len(LAYERS)
    compute_s = [2.0, 1.0, 9.0, 1.0, 9.0, 1.0, 1.0]
    found: list[float] = []
    for tier in (HostTier.PINNED, HostTier.PAGEABLE):
        side = HostSide(tiers=[tier] * count)
        largest = max(SIZES)
        with Streamed(
            compute_s, range(count), 4 * largest, 0.3 * largest, host_side=side
        ) as running:
            running.passes(WARM_UP_PASSES)
            found.append(running.passes(MEASURED_PASSES).seconds)
    pinned_s, bounced_s = found
    assert pinned_s == pytest.approx(sum(compute_s))
    # A ring of four is deeper than three buffers.
    assert bounced_s <= pinned_s + 1.0
