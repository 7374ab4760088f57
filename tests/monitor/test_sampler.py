"""Host, sampler, pacer, ancestry and detection."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from app.core.errors import SetupError
from app.core.events import EngineReady
from app.core.units import GIB
from app.monitor import probe as probe_module
from app.monitor.ancestry import MAX_DEPTH, Ancestry, parent_of
from app.monitor.host import SWAP_INTERVAL_S, HostProbe
from app.monitor.pacer import Pacer
from app.monitor.probe import detect, find_probes
from app.monitor.sampler import SEARCH_INTERVAL_S, EngineProcess, Sampler, engine_process
from tests.fakes.clock import FakeClock
from tests.fakes.hardware import FakeHost, FakeProbe, device


def test_the_host_tells_ram_and_the_engines_part():
    snapshot = HostProbe().snapshot(os.getpid())
    assert snapshot.total_bytes == psutil.virtual_memory().total
    assert 0 < snapshot.available_bytes <= snapshot.total_bytes
    assert snapshot.engine_rss_bytes is not None
    assert 1_000_000 < snapshot.engine_rss_bytes < snapshot.total_bytes


def test_the_host_has_none_for_an_engine_that_is_gone_or_never_was():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    probe = HostProbe()
    assert probe.snapshot(process.pid).engine_rss_bytes
    process.communicate(b"\n")
    assert probe.snapshot(process.pid).engine_rss_bytes is None
    assert probe.snapshot(None).engine_rss_bytes is None


def test_swap_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def swap_bytes() -> tuple[int, int]:
        asked.append(1)
        return (7, 9)

    monkeypatch.setattr("app.monitor.host._swap_bytes", swap_bytes)
    clock = FakeClock()
    probe = HostProbe(clock)
    for _ in range(9):
        probe.snapshot(None)
        clock.advance(SWAP_INTERVAL_S / 5)
    snapshot = probe.snapshot(None)
    assert (snapshot.swap_used_bytes, snapshot.swap_total_bytes) == (7, 9)
    assert len(asked) == 2


def test_a_sample_has_the_time_the_host_and_the_device_of_the_engine():
    gpu, computer, clock = FakeProbe(device()), FakeHost(), FakeClock(12.5)
    engine = EngineProcess(pid=4711)
    sampler = Sampler(probes=(gpu,), host=computer, engine=lambda: engine, clock=clock)
    sample = sampler.sample()
    assert sample.time_s == 12.5
    assert sample.device == gpu.now
    assert sample.host == computer.now
    assert (gpu.asked_for[-1], computer.asked_for[-1]) == (4711, 4711)


def test_a_sample_without_a_gpu_and_of_a_lost_gpu_has_no_device():
    assert Sampler(probes=(), host=FakeHost()).sample().device is None
    assert Sampler(probes=(FakeProbe(None),), host=FakeHost()).sample().device is None


def test_of_several_gpus_the_largest_is_watched_before_there_is_an_engine():
    small, large = FakeProbe(device(total_gib=8)), FakeProbe(device(total_gib=24))
    sample = Sampler(probes=(small, large), host=FakeHost()).sample()
    assert sample.device is large.now


def test_of_several_gpus_the_one_with_the_engines_name_is_watched():
    small = FakeProbe(device(total_gib=8))
    large = FakeProbe(replace(device(total_gib=24), name="Another GPU"))
    engine = EngineProcess(pid=1, device_name="Fake GPU")
    sample = Sampler(probes=(large, small), host=FakeHost(), engine=lambda: engine).sample()
    assert sample.device is small.now


def test_of_two_equal_gpus_the_one_with_the_engines_memory_is_found_within_a_second():
    first, second = FakeProbe(device(engine_gib=0)), FakeProbe(device(engine_gib=0))
    clock = FakeClock()
    engine = EngineProcess(pid=1, device_name="Fake GPU")
    sampler = Sampler(probes=(first, second), host=FakeHost(), engine=lambda: engine, clock=clock)
    assert sampler.sample().device is first.now
    second.now = device(engine_gib=2)
    clock.advance(SEARCH_INTERVAL_S)
    assert sampler.sample().device is second.now
    first.now = device(engine_gib=0, used_gib=9)
    assert sampler.sample().device is second.now


def test_of_two_equal_gpus_the_one_in_the_engine_s_place_is_watched():
    """As under Windows, where drivers do not tell memory by process."""
    probes = [FakeProbe(replace(device(), pci_address=f"0000:{bus}:00.0")) for bus in ("01", "41")]
    for address, chosen in (("0000:41:00.0", 1), ("0000:01:00.0", 0), ("", 0)):
        ready = EngineReady(
            pid=1,
            device="cuda:0",
            device_name="Fake GPU",
            torch_version="2",
            diffusers_version="0",
            pci_address=address,
        )
        sampler = Sampler(
            probes=tuple(probes), host=FakeHost(), engine=lambda ready=ready: engine_process(ready)
        )
        assert sampler.sample().device is probes[chosen].now


def test_a_closed_sampler_has_closed_its_probes():
    probes = (FakeProbe(device()), FakeProbe(device()))
    Sampler(probes=probes, host=FakeHost()).close()
    assert [probe.closed for probe in probes] == [True, True]


def test_the_pacer_keeps_its_grid_when_ticks_take_time():
    pacer = Pacer(0.1, now_s=10.0)
    now_s, begun = 10.0, []
    for _ in range(5):
        now_s += pacer.wait_s(now_s)
        begun.append(round(now_s, 6))
        now_s += 0.03
        pacer.ticked(now_s)
    assert begun == [10.0, 10.1, 10.2, 10.3, 10.4]


def test_the_pacer_skips_missed_ticks_and_returns_to_its_grid():
    pacer = Pacer(0.1, now_s=10.0)
    assert pacer.wait_s(10.0) == 0.0
    pacer.ticked(10.57)
    assert pacer.wait_s(10.57) == pytest.approx(0.03)


def test_the_pacer_takes_a_shorter_interval_at_once():
    pacer = Pacer(1.0, now_s=10.0)
    pacer.ticked(10.0)
    assert pacer.wait_s(10.1) == pytest.approx(0.9)
    pacer.interval_s = 0.1
    assert pacer.wait_s(10.1) == pytest.approx(0.1)


def test_a_process_descends_from_itself_and_its_ancestors_only():
    ancestry = Ancestry({3: 2, 2: 1, 1: 0, 8: 7}.get)
    assert ancestry.descends(3, 3)
    assert ancestry.descends(3, 1)
    assert not ancestry.descends(1, 3)
    assert not ancestry.descends(8, 1)


def test_ancestry_is_asked_once_and_ends_in_a_circle_of_parents():
    asked: list[int] = []

    def circle(pid: int) -> int:
        asked.append(pid)
        return 3 - pid

    ancestry = Ancestry(circle)
    for _ in range(3):
        assert not ancestry.descends(1, 50)
    assert len(asked) == MAX_DEPTH


def test_the_parent_of_this_process_is_the_systems_answer():
    assert parent_of(os.getpid()) == os.getppid()
    assert parent_of(2**22 + 1) is None


def test_detection_keeps_what_works_and_tells_what_does_not(monkeypatch: pytest.MonkeyPatch):
    working = FakeProbe(device())

    def broken() -> tuple[FakeProbe, ...]:
        raise SetupError("The driver is broken: mend it.", code="monitor.nvidia")

    monkeypatch.setattr(probe_module, "open_nvml_probes", broken)
    monkeypatch.setattr(probe_module, "open_amd_probes", lambda: (working,))
    monkeypatch.setattr(probe_module, "open_intel_probes", tuple)
    found = detect()
    assert found.probes == (working,)
    assert [problem.code for problem in found.problems] == ["monitor.nvidia"]


def test_problems_of_detection_stand_in_the_log(monkeypatch: pytest.MonkeyPatch, expect_log):
    def broken() -> tuple[FakeProbe, ...]:
        raise SetupError("The driver is broken: mend it.")

    for name in ("open_nvml_probes", "open_amd_probes", "open_intel_probes"):
        monkeypatch.setattr(probe_module, name, tuple)
    monkeypatch.setattr(probe_module, "open_nvml_probes", broken)
    expect_log("The driver is broken", logger="app.monitor.probe")
    assert find_probes() == ()


def test_gib_of_the_fakes_are_bytes():
    assert device(used_gib=1.5).used_bytes == 1.5 * GIB
