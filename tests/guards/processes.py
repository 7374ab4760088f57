"""Finds child processes that a test started and left running."""

import os
from pathlib import Path

import psutil

# These helpers live as long as the process that started them; what they start in turn does not.
_KNOWN_COMMANDS = (
    "multiprocessing.resource_tracker",
    "multiprocessing.forkserver",
    "tests.engine_server",
)

GRACE_S = 2.0


def running_children() -> frozenset[psutil.Process]:
    """Processes below this one that run now; one that ended and waits to be reaped does not."""
    if not _may_have_children():
        return frozenset()
    children = psutil.Process(os.getpid()).children(recursive=True)
    return frozenset(child for child in children if _runs(child))


def leaked_children(before: frozenset[psutil.Process]) -> list[str]:
    """Command lines of processes that were not there before and do not end within `GRACE_S`.

    They are killed, so that one careless test does not slow down or fail those after it.
    """
    suspects = [child for child in running_children() - before if not _is_known(child)]
    if not suspects:
        return []
    _, alive = psutil.wait_procs(suspects, timeout=GRACE_S)
    leaked: list[str] = []
    for process in alive:
        if _runs(process):
            leaked.append(_describe(process))
            process.kill()
    psutil.wait_procs(alive, timeout=GRACE_S)
    return sorted(leaked)


def _may_have_children() -> bool:
    """Linux says at once that there is none; psutil looks through all processes to find out."""
    try:
        return any((task / "children").read_bytes() for task in Path("/proc/self/task").iterdir())
    except OSError:
        return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_known(process: psutil.Process) -> bool:
    if not any(known in _describe(process) for known in _KNOWN_COMMANDS):
        return False
    try:
        return process.ppid() == os.getpid()
    except psutil.NoSuchProcess:
        return True


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}: (gone)"
