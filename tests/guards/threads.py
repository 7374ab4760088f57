"""Finds Python threads that a test started and left running."""

import threading
import time

# Threads that libraries keep for the life of the process, by class or name.
_KNOWN_CLASSES = frozenset({"TMonitor", "_DummyThread"})
_KNOWN_NAME_PREFIXES = ("pytest_timeout", "pydevd", "asyncio_")

GRACE_S = 2.0


def running_threads() -> frozenset[threading.Thread]:
    """Threads alive now, less those that libraries keep for good."""
    return frozenset(thread for thread in threading.enumerate() if not _is_known(thread))


def leaked_threads(before: frozenset[threading.Thread]) -> list[str]:
    """Names of threads that were not there before and do not end within `GRACE_S`."""
    deadline_s = time.monotonic() + GRACE_S
    leaked: list[str] = []
    for thread in running_threads() - before:
        # A thread that was told to stop may need a moment to do so.
        thread.join(max(0.0, deadline_s - time.monotonic()))
        if thread.is_alive():
            leaked.append(f"{thread.name} ({type(thread).__name__})")
    return sorted(leaked)


def _is_known(thread: threading.Thread) -> bool:
    return (
        thread is threading.main_thread()
        or type(thread).__name__ in _KNOWN_CLASSES
        or thread.name.startswith(_KNOWN_NAME_PREFIXES)
    )
