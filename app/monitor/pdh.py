"""GPU memory of each process as Windows counts it, through its performance counters (PDH).

It is the only place where Windows (WDDM) tells a process's memory on the GPU, and what of it lies
in RAM. Written after Microsoft's documentation and not tried on real Windows yet.
"""

import ctypes
import logging
import re
import sys
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)

DEDICATED = r"\GPU Process Memory(*)\Dedicated Usage"
SHARED = r"\GPU Process Memory(*)\Shared Usage"
PDH_MORE_DATA = 0x800007D2
PDH_FMT_LARGE = 0x00000400
PDH_CSTATUS_VALID_DATA = 0
PDH_CSTATUS_NEW_DATA = 1
_INSTANCE = re.compile(r"pid_(\d+)_")
_STATUS_MASK = 0xFFFFFFFF


class CounterValue(ctypes.Structure):
    """PDH_FMT_COUNTERVALUE, of whose union only the 64-bit integer is used."""

    _fields_ = (("status", ctypes.c_uint32), ("large", ctypes.c_int64))


class CounterItem(ctypes.Structure):
    """PDH_FMT_COUNTERVALUE_ITEM_W."""

    _fields_ = (("name", ctypes.c_wchar_p), ("value", CounterValue))


class PdhLibrary(Protocol):
    """The part of pdh.dll that is used here; each function returns a status, 0 for success."""

    def PdhOpenQueryW(self, source: None, user_data: int, query: Any, /) -> int: ...  # noqa: N802, ANN401
    def PdhAddEnglishCounterW(  # noqa: N802
        self,
        query: Any,  # noqa: ANN401
        path: str,
        user_data: int,
        counter: Any,  # noqa: ANN401
        /,
    ) -> int: ...
    def PdhCollectQueryData(self, query: Any, /) -> int: ...  # noqa: N802, ANN401
    def PdhGetFormattedCounterArrayW(  # noqa: N802
        self,
        counter: Any,  # noqa: ANN401
        format_flags: int,
        size_bytes: Any,  # noqa: ANN401
        count: Any,  # noqa: ANN401
        buffer: Any,  # noqa: ANN401
        /,
    ) -> int: ...
    def PdhCloseQuery(self, query: Any, /) -> int: ...  # noqa: N802, ANN401


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGpuMemory:
    """A process's memory on all GPUs.

    Attributes:
        dedicated_bytes: On the GPUs themselves.
        shared_bytes: In RAM, used as the GPUs' memory.
    """

    dedicated_bytes: int = 0
    shared_bytes: int = 0


class ProcessCounters(Protocol):
    """Tells GPU memory by process; used by one thread at a time."""

    def read(self) -> dict[int, ProcessGpuMemory] | None:
        """By process number; None when the system does not tell."""
        ...

    def close(self) -> None:
        """Let go of the counters."""
        ...


def open_process_counters(library: PdhLibrary | None = None) -> "PdhCounters | None":
    """The counters of this system; None elsewhere than on Windows, or where it has none.

    Args:
        library: Stands in for pdh.dll.
    """
    pdh = _load() if library is None else library
    if pdh is None:
        return None
    query = ctypes.c_void_p()
    status = pdh.PdhOpenQueryW(None, 0, ctypes.byref(query)) & _STATUS_MASK
    if status:
        log.info("performance counters cannot be opened (0x%08X)", status)
        return None
    counters: list[ctypes.c_void_p] = []
    for path in (DEDICATED, SHARED):
        counter = ctypes.c_void_p()
        added = pdh.PdhAddEnglishCounterW(query, path, 0, ctypes.byref(counter))
        status = added & _STATUS_MASK
        if status:
            # Before Windows 10 1709, and on some servers, there is no such counter.
            log.info("no counter %s (0x%08X)", path, status)
            pdh.PdhCloseQuery(query)
            return None
        counters.append(counter)
    return PdhCounters(pdh, query, dedicated=counters[0], shared=counters[1])


class PdhCounters:
    """An open query with the two counters."""

    def __init__(
        self,
        pdh: PdhLibrary,
        query: ctypes.c_void_p,
        *,
        dedicated: ctypes.c_void_p,
        shared: ctypes.c_void_p,
    ) -> None:
        self._pdh = pdh
        self._query: ctypes.c_void_p | None = query
        self._dedicated = dedicated
        self._shared = shared

    def read(self) -> dict[int, ProcessGpuMemory] | None:
        """By process number, over all GPUs; None when the system does not tell now."""
        if self._query is None or self._pdh.PdhCollectQueryData(self._query) & _STATUS_MASK:
            return None
        dedicated, shared = self._by_process(self._dedicated), self._by_process(self._shared)
        if dedicated is None or shared is None:
            return None
        return {
            pid: ProcessGpuMemory(
                dedicated_bytes=dedicated.get(pid, 0), shared_bytes=shared.get(pid, 0)
            )
            for pid in dedicated.keys() | shared.keys()
        }

    def close(self) -> None:
        """Close the query; the counters go with it."""
        if self._query is not None:
            self._pdh.PdhCloseQuery(self._query)
            self._query = None

    def _by_process(self, counter: ctypes.c_void_p) -> dict[int, int] | None:
        size, count = ctypes.c_uint32(0), ctypes.c_uint32(0)
        buffer: Any = None
        status = PDH_MORE_DATA
        # Processes may start between the question for the size and the one for the values.
        for _ in range(3):
            answered = self._pdh.PdhGetFormattedCounterArrayW(
                counter, PDH_FMT_LARGE, ctypes.byref(size), ctypes.byref(count), buffer
            )
            status = answered & _STATUS_MASK
            if status != PDH_MORE_DATA:
                break
            buffer = ctypes.create_string_buffer(size.value)
        if status or buffer is None:
            # No process uses a GPU, or the counter has no values yet.
            return {} if not status else None
        items = ctypes.cast(buffer, ctypes.POINTER(CounterItem))
        found: dict[int, int] = {}
        for index in range(count.value):
            item = items[index]
            match = _INSTANCE.match(item.name or "")
            if match and item.value.status in (PDH_CSTATUS_VALID_DATA, PDH_CSTATUS_NEW_DATA):
                pid = int(match.group(1))
                found[pid] = found.get(pid, 0) + max(0, item.value.large)
        return found


def _load() -> PdhLibrary | None:
    if sys.platform != "win32":
        return None
    try:
        library: Any = ctypes.WinDLL("pdh")
    except OSError as error:
        log.info("performance counters cannot be loaded: %s", error)
        return None
    return library
