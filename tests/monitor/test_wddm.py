"""Windows' own account of GPU memory, with a pdh.dll that behaves as the documentation says."""

import ctypes
from typing import Any

import pytest

from app.core.units import GIB
from app.monitor.ancestry import Ancestry
from app.monitor.pdh import (
    DEDICATED,
    PDH_FMT_LARGE,
    PDH_MORE_DATA,
    CounterItem,
    PdhCounters,
    ProcessGpuMemory,
    open_process_counters,
)
from app.monitor.probe import with_shared_memory
from app.monitor.wddm import WddmProbe
from tests.fakes.hardware import FakeProbe, device

NO_OBJECT = 0xC0000BB8 - (1 << 32)
"""PDH_CSTATUS_NO_OBJECT as ctypes gives it: functions return signed integers."""
NO_DATA = 0x800007D5 - (1 << 32)
INVALID_DATA = 0xC0000BC6


class FakePdh:
    """pdh.dll.

    Attributes:
        usage: Bytes by process number, dedicated and shared.
        missing: Counters that this system does not have.
        silent: Whether collecting fails.
        grows_by: Processes that start after the question for the size.
        invalid: Process numbers whose values are not valid.
        open_queries: How many there are.
    """

    def __init__(self, usage: dict[int, tuple[int, int]]) -> None:
        self.usage = usage
        self.missing: set[str] = set()
        self.silent = False
        self.grows_by: dict[int, tuple[int, int]] = {}
        self.invalid: set[int] = set()
        self.open_queries = 0
        self._paths: dict[int, str] = {}
        self._collected: dict[int, tuple[int, int]] = {}
        self._names: list[Any] = []

    def PdhOpenQueryW(self, source: None, user_data: int, query: Any, /) -> int:
        assert source is None
        query._obj.value = 7
        self.open_queries += 1
        return 0

    def PdhAddEnglishCounterW(self, query: Any, path: str, user_data: int, counter: Any, /) -> int:
        assert query.value == 7
        if path in self.missing:
            return NO_OBJECT
        counter._obj.value = 100 + len(self._paths)
        self._paths[counter._obj.value] = path
        return 0

    def PdhCollectQueryData(self, query: Any, /) -> int:
        assert query.value == 7
        self._collected = dict(self.usage)
        return NO_DATA if self.silent else 0

    def PdhGetFormattedCounterArrayW(
        self, counter: Any, format_flags: int, size_bytes: Any, count: Any, buffer: Any, /
    ) -> int:
        assert format_flags == PDH_FMT_LARGE
        column = 0 if self._paths[counter.value] == DEDICATED else 1
        rows = [
            # A process has an instance for each adapter and segment.
            (f"pid_{pid}_luid_0x00000000_0x0000C8A1_phys_{part}", pid, bytes_[column] // 2)
            for pid, bytes_ in self._collected.items()
            for part in (0, 1)
        ]
        needed = len(rows) * ctypes.sizeof(CounterItem)
        count._obj.value = len(rows)
        if size_bytes._obj.value < needed:
            size_bytes._obj.value = needed
            if buffer is None:
                self._collected |= self.grows_by
            return PDH_MORE_DATA - (1 << 32)
        if not rows:
            return 0
        items = ctypes.cast(buffer, ctypes.POINTER(CounterItem))
        for index, (name, pid, value) in enumerate(rows):
            items[index].name = name
            items[index].value.status = INVALID_DATA if pid in self.invalid else 0
            items[index].value.large = value
        self._names.append(buffer)
        return 0

    def PdhCloseQuery(self, query: Any, /) -> int:
        self.open_queries -= 1
        return 0


def opened(pdh: FakePdh) -> PdhCounters:
    counters = open_process_counters(pdh)
    assert counters is not None
    return counters


def test_memory_is_told_by_process() -> None:
    counters = opened(FakePdh({11: (6 * GIB, GIB), 12: (2 * GIB, 0)}))
    assert counters.read() == {
        11: ProcessGpuMemory(dedicated_bytes=6 * GIB, shared_bytes=GIB),
        12: ProcessGpuMemory(dedicated_bytes=2 * GIB, shared_bytes=0),
    }


def test_processes_may_come_between_two_questions() -> None:
    pdh = FakePdh({11: (GIB, 0)})
    pdh.grows_by = {12: (GIB, 0), 13: (GIB, 0)}
    read = opened(pdh).read()
    assert read is not None
    assert set(read) == {11, 12, 13}


def test_values_that_are_not_valid_are_left_out() -> None:
    pdh = FakePdh({11: (GIB, 0), 12: (GIB, 0)})
    pdh.invalid = {12}
    read = opened(pdh).read()
    assert read is not None
    assert set(read) == {11}


def test_no_process_on_a_gpu_is_no_error() -> None:
    assert opened(FakePdh({})).read() == {}


def test_a_system_that_does_not_tell_now_says_nothing() -> None:
    pdh = FakePdh({11: (GIB, 0)})
    pdh.silent = True
    assert opened(pdh).read() is None


def test_a_system_without_such_counters_has_none_and_nothing_stays_open() -> None:
    pdh = FakePdh({})
    pdh.missing = {DEDICATED}
    assert open_process_counters(pdh) is None
    assert pdh.open_queries == 0


def test_after_closing_nothing_is_asked() -> None:
    pdh = FakePdh({11: (GIB, 0)})
    counters = opened(pdh)
    counters.close()
    counters.close()
    assert pdh.open_queries == 0
    assert counters.read() is None


@pytest.mark.parametrize("only_gpu", [True, False])
def test_the_engine_s_share_is_added_to_what_the_driver_tells(only_gpu: bool) -> None:
    # 12 is the launcher's child, 99 another program.
    pdh = FakePdh({11: (0, 0), 12: (6 * GIB, GIB), 99: (3 * GIB, 2 * GIB)})
    parents = {12: 11, 11: 1, 99: 1}
    inner = FakeProbe(device(used_gib=10.0))
    probe = WddmProbe(inner, opened(pdh), only_gpu=only_gpu, ancestry=Ancestry(parents.get))
    snapshot = probe.snapshot(11)
    assert snapshot is not None
    assert snapshot.engine_bytes == (6 * GIB if only_gpu else None)
    assert snapshot.shared_bytes == GIB
    assert snapshot.used_bytes == 10 * GIB
    probe.close()
    assert inner.closed
    assert pdh.open_queries == 0


def test_what_the_driver_tells_itself_is_kept() -> None:
    inner = FakeProbe(device(used_gib=10.0, engine_gib=7.0))
    probe = WddmProbe(inner, opened(FakePdh({11: (6 * GIB, 0)})), only_gpu=True)
    snapshot = probe.snapshot(11)
    assert snapshot is not None
    assert snapshot.engine_bytes == 7 * GIB


def test_without_an_engine_or_an_answer_the_snapshot_is_the_driver_s() -> None:
    pdh = FakePdh({11: (6 * GIB, 0)})
    inner = FakeProbe(device())
    probe = WddmProbe(inner, opened(pdh), only_gpu=True)
    assert probe.snapshot(None) == device()
    pdh.silent = True
    assert probe.snapshot(11) == device()
    inner.now = None
    assert probe.snapshot(11) is None


def test_only_windows_adds_something() -> None:
    probes = (FakeProbe(device()), FakeProbe(device()))
    assert with_shared_memory(probes, lambda: None) == probes
    wrapped = with_shared_memory(probes, lambda: opened(FakePdh({11: (GIB, GIB)})))
    snapshots = [probe.snapshot(11) for probe in wrapped]
    assert [one.shared_bytes for one in snapshots if one is not None] == [GIB, GIB]
    assert [one.engine_bytes for one in snapshots if one is not None] == [None, None]
