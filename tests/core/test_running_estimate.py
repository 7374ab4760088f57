"""What a few measured ratios say: steady ones are believed, a wild one is not."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.running_estimate import WINDOW, added, middle, spread, upper, usual

_steady = st.floats(0.87, 1.15)
_counts = st.integers(1, 40)
_jitter = st.lists(st.floats(0.995, 1.005), min_size=30, max_size=30)


def window_of(*ratios: float) -> tuple[float, ...]:
    window: tuple[float, ...] = ()
    for ratio in ratios:
        window = added(window, ratio)
    return window


def test_nothing_measured_corrects_nothing():
    assert (usual(()), upper(()), middle(()), spread((), unmeasured=0.1)) == ((), 1.0, 1.0, 0.1)


@settings(max_examples=60, deadline=None)
@given(_steady, _counts)
def test_spread_shrinks_with_each_run_that_agrees(ratio: float, count: int):
    spreads = [spread(window_of(*[ratio] * n), unmeasured=0.1) for n in range(1, count + 1)]
    assert all(later <= earlier for earlier, later in pairwise(spreads))
    assert spreads[-1] == pytest.approx(0.1 / (1 + min(count, WINDOW)))


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 3.0), _jitter)
def test_factors_converge_to_a_steady_ratio(ratio: float, jitter: list[float]):
    window = window_of(*(ratio * one for one in jitter))
    assert middle(window) == pytest.approx(ratio, rel=0.006)
    assert upper(window) == pytest.approx(ratio, rel=0.06)


@settings(max_examples=100, deadline=None)
@given(_steady, _jitter)
def test_no_run_needs_more_than_one_percent_above_the_corrected_forecast(
    ratio: float, jitter: list[float]
):
    window: tuple[float, ...] = ()
    for count, one in enumerate(jitter):
        if count:
            assert upper(window) >= ratio * one / 1.0101
        window = added(window, ratio * one)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.9, 1.1), min_size=2, max_size=30),
    st.floats(0.001, 1000).filter(lambda wild: abs(math.log(wild)) > 1),
    st.integers(0, 30),
)
def test_one_wild_run_ruins_nothing(steady: list[float], wild: float, place: int):
    place = min(place, len(steady))
    with_wild = window_of(*steady[:place], wild, *steady[place:])
    assert 0.85 <= upper(with_wild) <= 1.11
    assert spread(with_wild, unmeasured=0.1) <= 0.21
    if len(steady) > 2:
        assert 0.89 <= middle(with_wild) <= 1.11


def test_the_first_run_is_believed_only_when_it_is_near_the_forecast():
    assert upper(window_of(1.1)) == pytest.approx(1.1)
    assert upper(window_of(5.0)) == 1.0
    assert upper(window_of(5.0, 5.0)) == pytest.approx(5.0)


def test_less_than_forecast_counts_the_more_the_more_often_it_was_seen():
    factors = [upper(window_of(*[0.9] * count)) for count in (1, 2, 6, 24)]
    assert factors == sorted(factors, reverse=True)
    assert 0.96 < factors[0] < 1
    assert factors[-1] == pytest.approx(0.9, rel=0.01)


def test_more_than_forecast_counts_at_once_and_stays():
    window = window_of(*[1.0] * 10, 1.08, 1.0, 1.0)
    assert upper(window) == pytest.approx(1.08)
    assert upper(window_of(*[1.0] * 10, 1.08, *[1.0] * WINDOW)) == pytest.approx(1.0)


def test_two_in_a_row_mean_that_something_has_changed():
    window = window_of(*[1.0] * 10, 2.0, 2.05)
    assert len(window) == 2
    assert middle(window) == pytest.approx(2.02, rel=0.01)
    assert len(window_of(*[1.0] * 10, 2.0, 0.4)) == 12


def test_the_window_is_bounded_and_so_are_its_ratios():
    window = window_of(*[1e300] * 50, 1e-300)
    assert len(window) <= WINDOW
    assert all(abs(ratio) <= math.log(1000) for ratio in window)
