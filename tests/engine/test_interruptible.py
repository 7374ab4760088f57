"""Long work ends when it is not wanted any more, and what comes after it is left alone."""

import subprocess
import sys
import threading

import pytest

from app.engine.cancel import CancelFlag
from app.engine.interruptible import InterruptedWorkError, interruptible

LOOK_S = 0.001


def long_work() -> int:
    """Minutes of work in Python."""
    return sum(1 for _ in range(5_000_000_000))


def test_work_ends_when_it_is_not_wanted_any_more() -> None:
    flag = CancelFlag()
    flag.set()
    with pytest.raises(InterruptedWorkError), interruptible(flag.check, look_s=LOOK_S):
        long_work()


def test_work_that_is_wanted_comes_to_its_end() -> None:
    with interruptible(CancelFlag().check, look_s=LOOK_S):
        done = sum(range(1_000_000))
    assert done == 499_999_500_000


def goes_on_once() -> None:
    """As code that frees objects does."""
    try:
        long_work()
    except InterruptedWorkError:
        long_work()


def test_what_swallows_the_first_gets_another() -> None:
    flag = CancelFlag()
    flag.set()
    with pytest.raises(InterruptedWorkError), interruptible(flag.check, look_s=LOOK_S):
        goes_on_once()


def test_nothing_is_raised_afterwards() -> None:
    flag = CancelFlag()
    threads = threading.active_count()
    for _ in range(200):
        flag.set()
        # Some end before anyone has looked, some at that moment.
        try:
            with interruptible(flag.check, look_s=0.0):
                sum(range(200))
        except InterruptedWorkError:
            continue
    assert sum(1 for _ in range(300_000)) == 300_000
    assert threading.active_count() == threads


TRACED = """
import sys
from app.engine.cancel import CancelFlag
from app.engine.interruptible import interruptible

with interruptible(CancelFlag().check):
    pass
called = []
sys.settrace(lambda frame, event, argument: called.append(frame.f_code.co_name))
(lambda: None)()
sys.settrace(None)
print(called)
"""


def test_python_is_left_as_it_was() -> None:
    """In a process of its own: a mark that is left makes Python 3.11 go round for ever."""
    command = [sys.executable, "-c", TRACED]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout.startswith("['<lambda>'"), done
