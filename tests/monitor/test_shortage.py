"""When a shortage is told: long enough to be one, once, and again when it was over or is worse."""

import pytest

from app.core.jobs import Phase
from app.core.units import MIB
from app.monitor.shortage import Alarm, Cause, Moment, Shortage

MARGIN = 64 * MIB
FURTHER = 256 * MIB
RAISE_SAMPLES = 3
CLEAR_SAMPLES = 10
"""A third of a second to be believed, and a whole one to be over, at ten samples a second."""


def short(mib: int) -> Shortage:
    return Shortage(
        cause=Cause.OTHERS, phase=Phase.DECODE, short_bytes=mib * MIB, in_s=0.0, took_bytes=0
    )


class Watched:
    """An alarm and the samples it sees."""

    def __init__(self) -> None:
        self._alarm = Alarm(margin_bytes=MARGIN, further_bytes=FURTHER)
        self.phase = 1
        self.plan = 1

    def see(self, mib: int | None, times: int = RAISE_SAMPLES) -> int:
        """How often it speaks when so much is lacking so many times in a row."""
        moment = Moment(plan_number=self.plan, phase_number=self.phase)
        shortage = None if mib is None else short(mib)
        return sum(self._alarm.look(shortage, moment) for _ in range(times))


def test_a_moment_s_peak_is_not_told() -> None:
    alarm = Watched()
    for _ in range(5):
        assert alarm.see(100, RAISE_SAMPLES - 1) == 0
        assert alarm.see(-100, 1) == 0
    assert alarm.see(100) == 1


def test_a_shortage_is_told_once_for_as_long_as_it_lasts() -> None:
    alarm = Watched()
    assert alarm.see(100, 50) == 1
    for alarm.phase in (2, 3):
        assert alarm.see(100, 50) == 0


@pytest.mark.parametrize(
    ("spare_mib", "samples", "is_over"),
    [
        (65, CLEAR_SAMPLES, True),
        (None, CLEAR_SAMPLES, True),
        (65, CLEAR_SAMPLES - 1, False),  # Not for long enough.
        (63, 10 * CLEAR_SAMPLES, False),  # Not by enough.
    ],
)
def test_memory_has_to_be_back_for_a_while_and_by_a_margin(
    spare_mib: int | None, samples: int, is_over: bool
) -> None:
    alarm = Watched()
    alarm.see(100)
    alarm.phase = 2
    assert alarm.see(None if spare_mib is None else -spare_mib, samples) == 0
    assert alarm.see(100) == is_over


def test_what_was_over_is_not_told_again_in_the_same_phase_unless_it_is_worse() -> None:
    alarm = Watched()
    alarm.see(100)
    alarm.see(None, CLEAR_SAMPLES)
    assert alarm.see(100, 20) == 0
    assert alarm.see(100 + 255, 20) == 0
    assert alarm.see(100 + 256, 20) == 1
    assert alarm.see(100 + 256, 20) == 0


def test_another_plan_is_measured_from_its_own_lack() -> None:
    alarm = Watched()
    alarm.see(1000)
    alarm.plan = 2
    assert alarm.see(255, 20) == 0
    assert alarm.see(256, 20) == 1
    alarm.phase, alarm.plan = 2, 3
    assert alarm.see(1, 20) == 1
