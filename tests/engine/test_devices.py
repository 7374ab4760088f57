"""What GPUs are asked, of stand-ins for torch's interfaces to them."""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from app.engine import devices
from app.engine.devices import (
    free_bytes,
    memory_info,
    pci_address,
    pick_device,
    release_host_cache,
)
from app.engine.host_memory import System

CPU, GPU, INTEL = torch.device("cpu"), torch.device("cuda:0"), torch.device("xpu:0")
TOTAL_BYTES = 16 << 30


@dataclass
class Properties:
    total_memory: int = TOTAL_BYTES


@dataclass
class Backend:
    """As torch.cuda and torch.xpu have it."""

    free_bytes: int | None
    reserved_bytes: int = 0
    emptied: int = 0

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        if self.free_bytes is None:
            raise RuntimeError(f"{device} doesn't support querying the available free memory")
        return self.free_bytes, TOTAL_BYTES

    def get_device_properties(self, device: torch.device) -> Properties:
        assert device == INTEL
        return Properties()

    def memory_reserved(self, device: torch.device) -> int:
        assert device == INTEL
        return self.reserved_bytes

    def empty_cache(self) -> None:
        self.emptied += 1


def use(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    def backend_of(kind: str) -> Backend:
        assert kind in {"cuda", "xpu"}
        return backend

    monkeypatch.setattr(devices, "_backend", backend_of)


@dataclass
class Card:
    """As torch tells a GPU's properties."""

    total_memory: int
    major: int


@pytest.mark.parametrize(
    ("cards", "best"),
    [
        ([Card(8 << 30, 8)], 0),
        # Beside the part of a processor, or a card for the screen.
        ([Card(2 << 30, 10), Card(16 << 30, 11)], 1),
        ([Card(24 << 30, 8), Card(24 << 30, 8)], 0),
        # A Tesla K80: much memory, and no torch for it.
        ([Card(12 << 30, 3), Card(8 << 30, 8)], 1),
    ],
)
def test_the_gpu_with_the_most_memory_is_taken_by_itself(
    cards: list[Card], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: len(cards),
        get_device_properties=lambda index: cards[index],
    )
    monkeypatch.setattr(devices, "_backend", lambda _kind: backend)
    assert pick_device("auto") == torch.device("cuda", best)
    assert pick_device("cuda:0") == torch.device("cuda", 0)


@pytest.mark.parametrize("device", [GPU, INTEL])
def test_memory_is_what_the_driver_says(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend(free_bytes=3 << 30)
    use(monkeypatch, backend)
    assert memory_info(device) == (3 << 30, TOTAL_BYTES)
    assert not backend.emptied
    assert free_bytes(device) == 3 << 30
    assert backend.emptied == 1


def test_no_more_is_free_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ROCm has it for processors that compute in RAM."""
    use(monkeypatch, Backend(free_bytes=2 * TOTAL_BYTES))
    assert memory_info(GPU) == (TOTAL_BYTES, TOTAL_BYTES)


def test_intel_whose_driver_does_not_tell_has_what_torch_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, Backend(free_bytes=None, reserved_bytes=1 << 30))
    assert memory_info(INTEL) == (15 << 30, TOTAL_BYTES)
    with pytest.raises(RuntimeError, match="free memory"):
        memory_info(GPU)


class Crowded(Backend):
    """As torch.cuda where others have memory that the driver would push them out of."""

    used_bytes: int | None = 10 << 30

    def device_memory_used(self, device: torch.device) -> int:
        assert device == GPU
        if self.used_bytes is None:
            raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")
        return self.used_bytes


def test_what_windows_would_push_out_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Crowded(free_bytes=15 << 30)
    use(monkeypatch, backend)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert memory_info(GPU) == (15 << 30, TOTAL_BYTES)
    monkeypatch.setattr(devices, "this_system", lambda: System(platform="win32"))
    assert memory_info(GPU) == (6 << 30, TOTAL_BYTES)
    backend.used_bytes = None
    assert memory_info(GPU) == (15 << 30, TOTAL_BYTES)


def test_what_may_be_another_gpu_s_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Crowded(free_bytes=15 << 30)
    use(monkeypatch, backend)
    monkeypatch.setattr(devices, "this_system", lambda: System(platform="win32"))
    for order in ("FASTEST_FIRST", ""):
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
        assert memory_info(GPU) == (15 << 30, TOTAL_BYTES)


@dataclass
class Place:
    """As torch tells it since it does."""

    pci_domain_id: int = 0
    pci_bus_id: int = 0x41
    pci_device_id: int = 0


def test_a_gpu_tells_where_it_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SimpleNamespace(get_device_properties=lambda _device: Place())
    monkeypatch.setattr(devices, "_backend", lambda _kind: backend)
    assert pci_address(GPU) == "0000:41:00.0"
    assert pci_address(CPU) == pci_address(INTEL) == ""
    backend.get_device_properties = lambda _device: Properties()
    assert pci_address(GPU) == ""


class Accelerator:
    """Stands for `torch.accelerator` of a version that has it."""

    def __init__(self) -> None:
        self.emptied = 0

    def empty_host_cache(self) -> None:
        self.emptied += 1


def test_locked_ram_is_given_back_where_torch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator()
    monkeypatch.setattr(torch, "accelerator", accelerator)
    release_host_cache(CPU)
    assert not accelerator.emptied
    release_host_cache(GPU)
    assert accelerator.emptied == 1
    monkeypatch.setattr(torch._C, "_host_emptyCache", _never, raising=False)
    release_host_cache(GPU)


@pytest.mark.parametrize("accelerator", [object(), None], ids=["older", "none"])
def test_locked_ram_is_given_back_by_older_versions_of_torch(
    accelerator: object | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch, "accelerator", accelerator)
    # As a build without CUDA is.
    monkeypatch.delattr(torch._C, "_host_emptyCache", raising=False)
    release_host_cache(GPU)
    empty = partial(emptied.append, "CUDA")
    monkeypatch.setattr(torch._C, "_host_emptyCache", empty, raising=False)
    release_host_cache(CPU)
    # Intel's cache is another, which those versions cannot empty.
    release_host_cache(INTEL)
    assert not emptied
    release_host_cache(GPU)
    assert emptied == ["CUDA"]


def _never() -> None:
    raise AssertionError("not where torch has a name for it")
