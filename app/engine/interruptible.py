"""Ending long work of a library that never looks whether it is still wanted."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Generator

from app.engine.cancel import CancelRequestedError

LOOK_S = 0.2


class InterruptedWorkError(BaseException):
    """Raised in the middle of the work, as Ctrl+C is: libraries let it pass, and tidy up."""


@contextlib.contextmanager
def interruptible(check: Callable[[], None], *, look_s: float = LOOK_S) -> Generator[None]:
    """Around work in Python: it ends soon after `check` raises in a thread that looks.

    Work in C, and other programs that are waited for, come to their end first.

    Args:
        check: Raises CancelRequestedError when the work is not wanted any more.
        look_s: Between two looks.

    Raises:
        InterruptedWorkError: The work was not wanted any more.
    """
    worker = threading.get_ident()
    ended = threading.Event()
    lock = threading.Lock()

    def look() -> None:
        while not ended.wait(look_s):
            try:
                check()
            except CancelRequestedError:
                with lock:
                    # Again each time: code that frees objects prints what is raised in it, and
                    # goes on.
                    if not ended.is_set():
                        _raise_in(worker)

    def settle() -> bool:
        try:
            with lock:
                ended.set()
            # What was raised and did not get there yet has nothing to do with what comes after.
            _let_arrive()
        except InterruptedWorkError:
            return False
        return True

    thread = threading.Thread(target=look, name="interrupter", daemon=True)
    try:
        thread.start()
        yield
    finally:
        while not settle():
            pass
        thread.join()


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(InterruptedWorkError)
    )


def _let_arrive() -> None:
    """Python raises at the call of a function what another thread wanted raised here.

    It is not taken back instead: where nothing was raised, taking it back leaves Python 3.11 with
    a mark that something is to be raised. It looks for it at every call from then on, and under
    `sys.settrace` for ever.
    """
