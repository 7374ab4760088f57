"""Our own Python as the program of a child process.

Under Windows the python.exe of a virtual environment only starts the Python that it was made with,
and waits for it: the child has another number than the process that was started. Its memory would
be asked of the launcher, which has none, and who ends the launcher has not yet ended the child.
multiprocessing starts its children in this way, too. Not tried on real Windows yet.
"""

import os
import sys

LAUNCHER_VARIABLE = "__PYVENV_LAUNCHER__"
"""Tells the Python behind a launcher in which environment it is."""


def without_launcher(
    program: str,
    *,
    platform: str = sys.platform,
    own: str = sys.executable,
    base: str | None = None,
) -> tuple[str, dict[str, str]]:
    """What to start instead of a program, and what to tell it in its environment.

    Args:
        program: To be started; another than our own Python is left as it is.
        platform: As `sys.platform`.
        own: As `sys.executable`.
        base: The Python that our environment was made with; None is as Python tells it.
    """
    # Without a name of its own in Python's documentation, but what its own library uses.
    base = base or str(getattr(sys, "_base_executable", own))
    if platform != "win32" or not _same(program, own) or _same(own, base):
        return program, {}
    return base, {LAUNCHER_VARIABLE: own}


def _same(one: str, other: str) -> bool:
    return os.path.normcase(one) == os.path.normcase(other)
