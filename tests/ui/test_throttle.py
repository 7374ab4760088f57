"""The throttle: the first value at once, the last one always, few between."""

from app.ui.models.throttle import Throttle


def collected(throttle: Throttle) -> list[object]:
    values: list[object] = []
    throttle.passed.connect(values.append)
    return values


def test_first_value_passes_at_once_and_only_the_last_of_the_rest(qtbot):
    throttle = Throttle(20)
    values = collected(throttle)
    for number in range(5):
        throttle.put(number)
    assert values == [0]
    qtbot.waitUntil(lambda: len(values) == 2)
    assert values == [0, 4]


def test_flush_passes_what_waits_once(qtbot):
    throttle = Throttle(10_000)
    values = collected(throttle)
    throttle.put("a")
    throttle.put("b")
    throttle.flush()
    throttle.flush()
    assert values == ["a", "b"]
    throttle.drop()


def test_dropped_value_never_passes_and_the_next_passes_at_once(qtbot):
    throttle = Throttle(10_000)
    values = collected(throttle)
    throttle.put("a")
    throttle.put("b")
    throttle.drop()
    throttle.flush()
    throttle.put("c")
    assert values == ["a", "c"]
    throttle.drop()


def test_none_is_a_value_like_any_other(qtbot):
    throttle = Throttle(10_000)
    values = collected(throttle)
    throttle.put(None)
    assert values == [None]
    throttle.drop()
