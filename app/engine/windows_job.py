"""On Windows a child outlives its parent unless both are tied by a job object.

Not tried on real Windows yet; the engine also ends itself when its stdin closes, so a failure
here costs only the second line of defence and is logged.
"""

import logging
import sys

log = logging.getLogger(__name__)


def end_with_this_process(pid: int) -> None:
    """Have the system end process `pid` when this process ends; does nothing but on Windows."""
    if sys.platform == "win32":
        _assign(pid)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _KILL_ON_JOB_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
    _EXTENDED_LIMIT_INFORMATION = 9  # JobObjectExtendedLimitInformation
    _PROCESS_SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001

    class _BasicLimits(ctypes.Structure):
        """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

        _fields_ = (
            ("per_process_user_time_limit", wintypes.LARGE_INTEGER),
            ("per_job_user_time_limit", wintypes.LARGE_INTEGER),
            ("limit_flags", wintypes.DWORD),
            ("minimum_working_set_size", ctypes.c_size_t),
            ("maximum_working_set_size", ctypes.c_size_t),
            ("active_process_limit", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority_class", wintypes.DWORD),
            ("scheduling_class", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

        _fields_ = (
            ("basic", _BasicLimits),
            ("io_counters", ctypes.c_ulonglong * 6),
            ("process_memory_limit", ctypes.c_size_t),
            ("job_memory_limit", ctypes.c_size_t),
            ("peak_process_memory_used", ctypes.c_size_t),
            ("peak_job_memory_used", ctypes.c_size_t),
        )

    def _assign(pid: int) -> None:
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.CreateJobObjectW.restype = wintypes.HANDLE
        kernel32.OpenProcess.restype = wintypes.HANDLE
        # The handle is left open on purpose: the job ends, with its processes, when we do.
        job = wintypes.HANDLE(kernel32.CreateJobObjectW(None, None))
        limits = _ExtendedLimits()
        limits.basic.limit_flags = _KILL_ON_JOB_CLOSE
        process = wintypes.HANDLE(
            kernel32.OpenProcess(_PROCESS_SET_QUOTA_AND_TERMINATE, False, pid)  # noqa: FBT003
        )
        done = kernel32.SetInformationJobObject(
            job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
        ) and kernel32.AssignProcessToJobObject(job, process)
        if not done:
            log.warning("the engine is not tied to this process (%d)", ctypes.get_last_error())
        kernel32.CloseHandle(process)
