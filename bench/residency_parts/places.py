"""The device of a case: how it is capped, measured, and how weights come to it."""

import time
from typing import Any, Protocol

import torch

from app.engine.residency.cuda_transfers import CudaTransfers
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostBuffer, ram_buffer
from app.engine.residency.pinning import CudaRegistrar, Pinning
from app.engine.residency.stored_block import paged_buffer
from app.engine.residency.transfers import DirectTransfers, Mark, Times, Transfers


class Place(Protocol):
    """Where a case computes.

    Attributes:
        device: Of torch.
        transfers: Of `app.engine.residency`.
        context_bytes: Of the process without any tensor.
    """

    @property
    def device(self) -> torch.device: ...
    @property
    def transfers(self) -> Transfers: ...
    @property
    def context_bytes(self) -> int: ...

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """RAM for weights, pinned as far as that goes."""
        ...

    def synchronize(self) -> None:
        """Wait for all that was told."""
        ...

    def reset_peak(self) -> None:
        """Forget what was held before."""
        ...

    def peak_bytes(self) -> tuple[int | None, int | None]:
        """Of tensors and of the allocator since then; None where nothing tells."""
        ...


class CopyingTransfers(DirectTransfers):
    """Stands for a link on a machine that has none: the CPU copies at once, within RAM.

    The streamer is the real one; nothing is hidden behind computing.
    """

    in_place = False

    def __init__(self) -> None:
        """Begin with nothing copied."""
        self.held_bytes = 0
        self._copied_bytes = 0
        self._copying_s = 0.0

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Ordinary RAM, counted."""
        self.held_bytes += size_bytes
        return ram_buffer(size_bytes)[0]

    def release(self, buffer: torch.Tensor) -> None:
        """Counted no more."""
        self.held_bytes -= buffer.numel()

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
        """At once, with its time."""
        began_s = time.perf_counter()
        super().copy(target, source, after)
        self._copying_s += time.perf_counter() - began_s
        self._copied_bytes += target.numel()

    def take_times(self) -> Times:
        """Computing has waited for all of it."""
        seconds, copied_bytes = self._copying_s, self._copied_bytes
        self._copying_s, self._copied_bytes = 0.0, 0
        return Times(copied_bytes=copied_bytes, copying_s=seconds, waited_s=seconds)


class CpuPlace:
    """The processor, for machines without a GPU."""

    def __init__(self) -> None:
        """One thread, so that the figures of a busy machine are less wild."""
        torch.set_num_threads(1)
        self.device = torch.device("cpu")
        self.transfers = CopyingTransfers()
        self.context_bytes = 0

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Ordinary RAM."""
        return ram_buffer(size_bytes)

    def synchronize(self) -> None:
        """All is done."""

    def reset_peak(self) -> None:
        """Nothing is held."""

    def peak_bytes(self) -> tuple[int | None, int | None]:
        """There is no card, and so no account of it."""
        return None, None


class CudaPlace:
    """A GPU of torch.cuda, capped to act as a smaller card. Not tried on a real GPU."""

    def __init__(self, cap_bytes: int | None) -> None:
        """Cap torch's allocator, which all weights and tensors come from.

        Args:
            cap_bytes: Of the card that is acted, with the process's context; None is no cap.
        """
        self.device = torch.device("cuda")
        before = _used_bytes()
        torch.empty(1, device=self.device).fill_(0)
        square = torch.ones(64, 64, device=self.device, dtype=torch.bfloat16)
        (square @ square).sum().item()
        del square
        reserved = torch.cuda.memory_reserved()
        self.context_bytes = max(0, _used_bytes() - before - reserved)
        self.transfers = CudaTransfers(self.device)
        self._pinning = Pinning(CudaRegistrar(self.device))
        if cap_bytes is not None:
            total = torch.cuda.get_device_properties(self.device).total_memory
            share = allocator_share(cap_bytes, self.context_bytes, int(total))
            torch.cuda.set_per_process_memory_fraction(share)

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Locked as the engine locks it."""
        buffer = paged_buffer(size_bytes)
        locked = self._pinning.pin(buffer)
        return (buffer, HostTier.PAGEABLE) if locked is None else (locked, HostTier.PINNED)

    def synchronize(self) -> None:
        """Also for copies."""
        torch.cuda.synchronize()

    def reset_peak(self) -> None:
        """And give back what the making of weights has left in the allocator."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> tuple[int | None, int | None]:
        """By torch's allocator."""
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def allocator_share(cap_bytes: int, context_bytes: int, total_bytes: int) -> float:
    """Of a card's memory, what torch's allocator may have so that all is within the cap."""
    return min(1.0, max(0, cap_bytes - context_bytes) / total_bytes)


def place_of(device: str, cap_bytes: int | None) -> Place:
    """The place of a case."""
    return CpuPlace() if device == "cpu" else CudaPlace(cap_bytes)


def _used_bytes() -> int:
    """Of the whole card, by NVML: torch itself cannot see its context come."""
    import pynvml

    nvml: Any = pynvml
    nvml.nvmlInit()
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    finally:
        nvml.nvmlShutdown()
