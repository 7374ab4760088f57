"""NVIDIA GPUs through NVML, on a stand-in for its module."""

import sys

import pytest

from app.core.errors import SetupError
from app.monitor.ancestry import Ancestry
from app.monitor.details import INTERVAL_S as DETAILS_INTERVAL_S
from app.monitor.nvml import REOPEN_INTERVAL_S, NvmlProbe, open_nvml_probes
from tests.fakes.clock import FakeClock
from tests.fakes.nvml import Card, FakeNvml, Process

PARENTS = {70: 60, 60: 50, 50: 1, 99: 1}


def open_probe(nvml: FakeNvml, clock: FakeClock | None = None) -> NvmlProbe:
    return NvmlProbe(
        nvml,
        index=0,
        driver="NVIDIA 580",
        clock=clock or FakeClock(),
        ancestry=Ancestry(PARENTS.get),
    )


def test_there_are_no_probes_without_a_driver():
    for error in (FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND, FakeNvml.NVML_ERROR_DRIVER_NOT_LOADED):
        nvml = FakeNvml()
        nvml.broken["nvmlInit"] = error
        assert open_nvml_probes(nvml) == ()


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (FakeNvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "monitor.nvidia_restart", "restart"),
        (FakeNvml.NVML_ERROR_NO_PERMISSION, "monitor.nvidia_permission", "group"),
        (FakeNvml.NVML_ERROR_UNKNOWN, "monitor.nvidia", "reinstalling"),
    ],
)
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_does_not_answer_is_a_setup_error_with_a_remedy(
    function: str, error: int, code: str, remedy: str
):
    nvml = FakeNvml(Card())
    nvml.broken[function] = error
    with pytest.raises(SetupError) as caught:
        open_nvml_probes(nvml)
    assert caught.value.code == code
    assert remedy in caught.value.message
    assert nvml.users == 0


def test_each_card_with_memory_of_its_own_has_a_probe():
    shared = Card(
        name="GB10", broken={"nvmlDeviceGetMemoryInfo": 3, "nvmlDeviceGetMemoryInfo_v2": 3}
    )
    nvml = FakeNvml(Card(name="A"), shared, Card(name="B"))
    probes = open_nvml_probes(nvml)
    names = [snapshot.name for probe in probes if (snapshot := probe.snapshot(None))]
    assert names == ["A", "B"]
    assert [probe.driver for probe in probes] == ["NVIDIA 580.65.06"] * 2
    for probe in probes:
        probe.close()
    assert nvml.users == 0


def test_what_cannot_be_had_counts_as_used_with_both_versions_of_memory_info():
    for broken in ({}, {"nvmlDeviceGetMemoryInfo_v2": FakeNvml.NVML_ERROR_FUNCTION_NOT_FOUND}):
        probe = open_probe(FakeNvml(Card(total=1000, free=700, reserved=40, broken=broken)))
        snapshot = probe.snapshot(None)
        assert snapshot is not None
        assert (snapshot.total_bytes, snapshot.used_bytes) == (1000, 300)


def test_a_driver_without_the_second_version_is_not_asked_for_it_again():
    error = FakeNvml.NVML_ERROR_FUNCTION_NOT_FOUND
    nvml = FakeNvml(Card(broken={"nvmlDeviceGetMemoryInfo_v2": error}))
    probe = open_probe(nvml)
    for _ in range(3):
        assert probe.snapshot(None) is not None
    assert nvml.calls["nvmlDeviceGetMemoryInfo_v2"] == 1


def test_memory_of_the_engine_is_its_own_and_that_of_processes_below_it():
    card = Card(processes=[Process(50, 100), Process(70, 20), Process(99, 3)])
    snapshot = open_probe(FakeNvml(card)).snapshot(50)
    assert snapshot is not None
    assert snapshot.engine_bytes == 120


@pytest.mark.parametrize("processes", [[], [Process(99, 3)]], ids=["WSL", "container"])
def test_an_engine_that_the_driver_does_not_know_may_have_any_memory(processes: list[Process]):
    """As where the driver counts processes otherwise than the system that we are in."""
    snapshot = open_probe(FakeNvml(Card(processes=processes))).snapshot(50)
    assert snapshot is not None
    assert snapshot.engine_bytes is None


def test_memory_of_the_engine_is_unknown_under_windows_without_permission_and_without_an_engine():
    windows = Card(processes=[Process(50, None)])
    refused = Card(broken={"nvmlDeviceGetComputeRunningProcesses_v3": 4})
    for card, pid in ((windows, 50), (refused, 50), (Card(processes=[Process(50, 1)]), None)):
        snapshot = open_probe(FakeNvml(card)).snapshot(pid)
        assert snapshot is not None
        assert snapshot.engine_bytes is None


def test_load_temperature_and_power_have_their_units():
    snapshot = open_probe(FakeNvml(Card())).snapshot(None)
    assert snapshot is not None
    assert snapshot.utilization_percent == 37.0
    assert snapshot.temperature_c == 61.0
    assert snapshot.power_w == 180.5


def test_what_a_card_does_not_tell_is_none_and_the_rest_is_there():
    card = Card(broken={"nvmlDeviceGetPowerUsage": 3, "nvmlDeviceGetUtilizationRates": 3})
    snapshot = open_probe(FakeNvml(card)).snapshot(None)
    assert snapshot is not None
    assert (snapshot.power_w, snapshot.utilization_percent) == (None, None)
    assert snapshot.temperature_c == 61.0


def test_a_card_tells_where_it_sits_once_where_it_can():
    nvml = FakeNvml(Card(bus=0x41))
    probe = open_probe(nvml)
    addresses = {snapshot.pci_address for _ in range(3) if (snapshot := probe.snapshot(None))}
    assert addresses == {"0000:41:00.0"}
    assert nvml.calls["nvmlDeviceGetPciInfo"] == 1
    snapshot = open_probe(FakeNvml(Card(broken={"nvmlDeviceGetPciInfo": 3}))).snapshot(None)
    assert snapshot is not None
    assert snapshot.pci_address == ""


def test_the_real_binding_tells_the_place_in_these_fields():
    import pynvml

    fields = {name for name, *_ in pynvml.nvmlPciInfo_t._fields_}
    assert {"domain", "bus", "device"} <= fields


def test_slow_figures_are_asked_once_a_second():
    nvml, clock = FakeNvml(Card()), FakeClock()
    probe = open_probe(nvml, clock)
    for _ in range(11):
        probe.snapshot(None)
        clock.advance(DETAILS_INTERVAL_S / 10)
    assert nvml.calls["nvmlDeviceGetTemperature"] == 2
    assert nvml.calls["nvmlDeviceGetMemoryInfo_v2"] == 11


def test_a_lost_card_gives_nothing_and_is_opened_anew_after_a_while():
    card, clock = Card(), FakeClock()
    nvml = FakeNvml(card)
    probe = open_probe(nvml, clock)
    assert probe.snapshot(None) is not None
    lost = FakeNvml.NVML_ERROR_GPU_IS_LOST
    card.broken = {"nvmlDeviceGetMemoryInfo": lost, "nvmlDeviceGetMemoryInfo_v2": lost}
    assert probe.snapshot(None) is None
    assert nvml.users == 0
    card.broken = {}
    clock.advance(REOPEN_INTERVAL_S / 2)
    assert probe.snapshot(None) is None
    assert nvml.calls["nvmlInit"] == 1
    clock.advance(REOPEN_INTERVAL_S / 2)
    assert probe.snapshot(None) is not None


def test_a_closed_probe_asks_nothing_and_may_be_closed_twice():
    nvml = FakeNvml(Card())
    probe = open_probe(nvml)
    probe.snapshot(None)
    probe.close()
    probe.close()
    assert nvml.users == 0
    assert probe.snapshot(None) is None


def test_the_real_binding_has_everything_the_stand_in_has():
    import pynvml

    names = [name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) > 15
    for name in names:
        assert hasattr(pynvml, name), name
        if name.startswith("NVML_") or name == "nvmlMemory_v2":
            assert getattr(pynvml, name) == getattr(FakeNvml, name), name


def test_the_real_binding_is_used_and_finds_nothing_or_something():
    for probe in open_nvml_probes():
        assert probe.snapshot(None) is not None
        probe.close()
    assert "pynvml" in sys.modules
