"""Time left by bytes done."""

import pytest

from app.core.bytes_left import BytesLeft


def test_nothing_is_said_before_a_speed_can_be_told():
    left = BytesLeft()
    assert left.remaining_s(5.0) is None
    left.note("load", 10, 100, 5.0)
    assert left.remaining_s(5.0) is None
    left.note("load", 20, 100, 5.5)
    assert left.remaining_s(5.5) is None
    left.note("load", 20, 100, 9.0)
    assert left.remaining_s(9.0) == pytest.approx(32.0)


def test_time_left_runs_on_between_two_words_and_never_below_nothing():
    left = BytesLeft()
    left.note("load", 0, 100, 0.0)
    left.note("load", 50, 100, 5.0)
    assert left.remaining_s(5.0) == pytest.approx(5.0)
    assert left.remaining_s(7.0) == pytest.approx(3.0)
    assert left.remaining_s(70.0) == 0.0


def test_something_else_and_something_begun_anew_have_a_speed_of_their_own():
    left = BytesLeft()
    left.note("load", 0, 100, 0.0)
    left.note("load", 90, 100, 9.0)
    left.note("convert", 10, 100, 10.0)
    assert left.remaining_s(10.0) is None
    left.note("convert", 20, 100, 30.0)
    assert left.remaining_s(30.0) == pytest.approx(160.0)
    left.note("convert", 0, 100, 31.0)
    assert left.remaining_s(31.0) is None
