"""Arithmetic of the memory graph: ticks, spans, labels, projection."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.units import GIB, MIB
from app.ui.widgets.graph_projection import Projection, as_points, polygon, row_at
from app.ui.widgets.graph_scale import (
    format_ahead,
    format_elapsed,
    format_gb,
    lane_top_bytes,
    memory_ticks,
    recent_ticks,
    run_span_s,
    spread,
    time_ticks,
)


@pytest.mark.parametrize(
    ("top_bytes", "most", "texts"),
    [
        (12 * GIB, 4, ["0", "4", "8", "12 GB"]),
        (24 * GIB, 4, ["0", "8", "16", "24 GB"]),
        (12 * GIB, 2, ["0", "8 GB"]),
        (2 * GIB, 4, ["0", "0.5", "1", "1.5", "2 GB"]),
        (512 * MIB, 4, ["0", "128", "256", "384", "512 MB"]),
    ],
)
def test_memory_ticks_are_sizes_memory_comes_in(top_bytes: float, most: int, texts: list[str]):
    assert [text for _, text in memory_ticks(top_bytes, most=most)] == texts


@given(st.integers(min_value=MIB, max_value=2**42), st.integers(min_value=2, max_value=12))
def test_memory_ticks_fit_and_end_with_a_unit(top_bytes: int, most: int):
    ticks = memory_ticks(float(top_bytes), most=most)
    assert 2 <= len(ticks) <= most + 1
    assert ticks[0][0] == 0
    assert all(value <= top_bytes * (1 + 1e-6) for value, _ in ticks)
    assert ticks[-1][1].endswith("B")


def test_much_used_ram_is_shown_up_to_its_total():
    assert lane_top_bytes(20 * GIB, 32 * GIB, previous_bytes=None) == 32 * GIB


def test_little_used_ram_is_enlarged_to_a_round_size_above_it():
    top = lane_top_bytes(6 * GIB, 64 * GIB, previous_bytes=None)
    assert 7.2 * GIB <= top <= 12 * GIB
    assert top % (2 * GIB) == 0


def test_an_enlarged_axis_stays_while_values_waver_and_shrinks_when_they_fall():
    first = lane_top_bytes(6 * GIB, 64 * GIB, previous_bytes=None)
    assert lane_top_bytes(5.5 * GIB, 64 * GIB, previous_bytes=first) == first
    assert lane_top_bytes(first, 64 * GIB, previous_bytes=first) > first
    assert lane_top_bytes(1 * GIB, 64 * GIB, previous_bytes=first) < first / 2


@given(st.floats(min_value=0, max_value=64), st.floats(min_value=0.1, max_value=64))
def test_the_highest_value_is_always_in_sight(highest_gib: float, previous_gib: float):
    highest = min(highest_gib, 64) * GIB
    for previous in (None, previous_gib * GIB):
        top = lane_top_bytes(highest, 64 * GIB, previous_bytes=previous)
        assert highest <= top <= 64 * GIB


@given(st.floats(min_value=0, max_value=400_000))
def test_a_run_fits_its_span_and_fills_a_third_of_it_at_least(elapsed_s: float):
    span = run_span_s(elapsed_s)
    assert elapsed_s <= span
    assert span <= 2 or elapsed_s >= span / 3


def test_a_run_of_a_minute_has_readable_times():
    assert [text for _, text in time_ticks(60, most=4)] == ["0 s", "15 s", "30 s", "45 s", "1:00"]


@given(st.floats(min_value=5, max_value=400_000), st.integers(min_value=2, max_value=12))
def test_time_ticks_do_not_crowd(span_s: float, most: int):
    assert len(time_ticks(span_s, most=most)) <= max(most + 1, 15)


def test_the_last_minute_ends_now():
    ticks = recent_ticks("now", most=4)
    assert ticks[0] == (-60.0, "−60 s")
    assert ticks[-1] == (0.0, "now")
    assert len(ticks) == 5
    assert len(recent_ticks("now", most=0)) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (150, "2:30"), (3900, "1:05:00")],
)
def test_moments_on_the_axis(seconds: float, text: str):
    assert format_elapsed(seconds) == text


def test_figures_are_gib_with_two_decimals_or_a_dash():
    assert format_gb(1.5 * GIB) == "1.50"
    assert format_gb(None) == "–"


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=6))
def test_labels_are_spread_apart_within_bounds_and_in_order(places: list[float]):
    moved = spread(sorted(places), gap=14, low=7, high=93)
    assert len(moved) == len(places)
    for one, other in itertools.pairwise(moved):
        assert other - one >= 14 - 1e-6
    if moved:
        assert max(moved) <= 93 + 1e-6


def test_labels_that_have_room_stay_where_they_are():
    assert spread([10, 40, 80], gap=14, low=0, high=100) == (10, 40, 80)


def test_values_are_projected_to_pixels_and_back():
    scale = Projection(
        left_s=100.0, span_s=60.0, plot_width_px=600.0, top_bytes=10.0, height_px=200.0
    )
    assert scale.x_px(130.0) == 300.0
    assert scale.time_s(300.0) == 130.0
    assert scale.y_px(2.5) == 150.0
    assert list(scale.xs_px(np.array([100.0, 160.0]))) == [0.0, 600.0]
    assert list(scale.ys_px(np.array([0.0, np.nan, 10.0]))) == [200.0, 200.0, 0.0]


def test_a_polygon_has_the_points_in_order(qapp):
    line = polygon(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert [(line.at(row).x(), line.at(row).y()) for row in range(2)] == [(1.0, 3.0), (2.0, 4.0)]


def test_the_nearest_row_is_found_and_none_beyond_the_recording():
    times = as_points(memoryview(np.array([10.0, 11.0, 12.0]).data))
    assert row_at(times, 10.4) == 0
    assert row_at(times, 10.6) == 1
    assert row_at(times, 12.9) == 2
    assert row_at(times, 13.1) is None
    assert row_at(times, 8.9) is None


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "<1 s"), (5.2, "+5 s"), (363.0, "+6:03"), (6840.0, "+1.9 h")]
)
def test_how_far_a_plan_reaches_is_never_nothing(seconds: float, told: str):
    assert format_ahead(seconds) == told
