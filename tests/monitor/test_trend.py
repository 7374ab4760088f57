"""What counts as steady growth, and from when on it does not any more."""

from app.core.units import MIB
from app.monitor.trend import GAP_S, Growth, Trend

EVERY_S = 0.1


def after(values_mib: list[float], *, every_s: float = EVERY_S) -> Growth:
    trend = Trend(min_rise_bytes=64 * MIB)
    for number, value in enumerate(values_mib):
        trend.add(number * every_s, value * MIB)
    return trend.growth()


RAMP = [50.0 * number for number in range(21)]


def test_a_straight_line_is_growth_at_its_slope() -> None:
    growth = after(RAMP)
    assert abs(growth.bytes_per_s / MIB - 500) < 1
    assert growth.seen_s == 2.0


def test_growth_that_has_stopped_is_over_within_half_a_second() -> None:
    assert after([*RAMP, *[RAMP[-1]] * 5]) == Growth()


def test_one_step_and_two_are_no_growth() -> None:
    for long in range(1, 30):
        assert after([0.0] * 20 + [300.0] * long) == Growth()
        assert after([0.0] * 20 + [300.0] * 5 + [600.0] * long) == Growth()


def test_what_shrinks_does_not_grow() -> None:
    assert after(RAMP[::-1]) == Growth()


def test_after_a_gap_all_begins_anew() -> None:
    trend = Trend(min_rise_bytes=64 * MIB)
    for number, value in enumerate(RAMP):
        trend.add(number * EVERY_S, value * MIB)
    assert trend.growth() != Growth()
    asleep_s = len(RAMP) * EVERY_S + GAP_S + 1
    for number in range(6):
        # On the same line as before, but for all that is known it came at once.
        value = 500.0 * asleep_s + (300.0 if number > 2 else 0.0)
        trend.add(asleep_s + number * EVERY_S, value * MIB)
        assert trend.growth() == Growth()
