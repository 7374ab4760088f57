"""A stand-in for the `pynvml` module: same functions, same errors, scriptable cards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class FakeNvmlError(Exception):
    """As pynvml.NVMLError: carries NVML's number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@dataclass
class Process:
    """As NVML's process info; `usedGpuMemory` is None under Windows."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815 - NVML's own name


@dataclass
class Memory:
    """As NVML's memory info."""

    total: int
    free: int
    used: int
    reserved: int = 0


@dataclass
class Place:
    """As NVML's PCI info."""

    bus: int
    domain: int = 0
    device: int = 0


@dataclass
class Rates:
    gpu: int
    memory: int = 0


@dataclass
class Card:
    """One GPU.

    Attributes:
        bus: Of PCI.
        broken: Error numbers of functions by name; they raise instead of answering.
    """

    name: str = "NVIDIA GeForce RTX 4070"
    total: int = 12_000
    free: int = 9_000
    reserved: int = 400
    processes: list[Process] = field(default_factory=list)
    load: int = 37
    temperature: int = 61
    milliwatts: int = 180_500
    bus: int = 1
    broken: dict[str, int] = field(default_factory=dict)


class FakeNvml:
    """The module.

    Attributes:
        users: How often it was opened and not shut down again.
        calls: How often each function was called.
        broken: Error numbers of functions of no card in particular.
    """

    NVMLError: type[Exception] = FakeNvmlError
    NVML_TEMPERATURE_GPU: int = 0
    NVML_ERROR_NO_PERMISSION: int = 4
    NVML_ERROR_DRIVER_NOT_LOADED: int = 9
    NVML_ERROR_LIBRARY_NOT_FOUND: int = 12
    NVML_ERROR_FUNCTION_NOT_FOUND: int = 13
    NVML_ERROR_GPU_IS_LOST: int = 15
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: int = 18
    NVML_ERROR_UNKNOWN: int = 999
    nvmlMemory_v2: int = 0x02000028  # noqa: N815 - NVML's own name

    def __init__(self, *cards: Card) -> None:
        self.cards = cards
        self.users = 0
        self.calls: dict[str, int] = {}
        self.broken: dict[str, int] = {}

    def nvmlInit(self) -> None:
        self._called("nvmlInit")
        self.users += 1

    def nvmlShutdown(self) -> None:
        self._called("nvmlShutdown")
        assert self.users > 0, "shut down more often than opened"
        self.users -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        self._called("nvmlSystemGetDriverVersion")
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        self._called("nvmlDeviceGetCount")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Card:
        return self._ask("nvmlDeviceGetHandleByIndex", self.cards[index], lambda card: card)

    def nvmlDeviceGetName(self, handle: Card, /) -> str:
        return self._ask("nvmlDeviceGetName", handle, lambda card: card.name)

    def nvmlDeviceGetPciInfo(self, handle: Card, /) -> Place:
        return self._ask("nvmlDeviceGetPciInfo", handle, lambda card: Place(bus=card.bus))

    def nvmlDeviceGetMemoryInfo(self, handle: Card, version: int | None = None, /) -> Memory:
        def answer(card: Card) -> Memory:
            used = card.total - card.free
            if version is None:
                return Memory(total=card.total, free=card.free, used=used)
            # The second version does not count the driver's reserve as used.
            used -= card.reserved
            return Memory(card.total, card.free, used, card.reserved)

        name = "nvmlDeviceGetMemoryInfo" + ("" if version is None else "_v2")
        return self._ask(name, handle, answer)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Card, /) -> list[Process]:
        name = "nvmlDeviceGetComputeRunningProcesses_v3"
        return self._ask(name, handle, lambda card: card.processes)

    def nvmlDeviceGetUtilizationRates(self, handle: Card, /) -> Rates:
        return self._ask("nvmlDeviceGetUtilizationRates", handle, lambda card: Rates(card.load))

    def nvmlDeviceGetTemperature(self, handle: Card, sensor: int, /) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._ask("nvmlDeviceGetTemperature", handle, lambda card: card.temperature)

    def nvmlDeviceGetPowerUsage(self, handle: Card, /) -> int:
        return self._ask("nvmlDeviceGetPowerUsage", handle, lambda card: card.milliwatts)

    def _called(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.broken:
            raise FakeNvmlError(self.broken[name])

    def _ask(self, name: str, card: Card, answer: Callable[[Card], Any]) -> Any:
        assert self.users > 0, "asked before nvmlInit"
        self._called(name)
        if name in card.broken:
            raise FakeNvmlError(card.broken[name])
        return answer(card)
