"""What a plan is carried out on: one interface for the CPU, real GPUs and the simulated one.

Networks are loaded into RAM; a device has their weights lent while it computes with them.
"""

import contextlib
import time
from collections.abc import Generator
from typing import Any, Protocol

import psutil
import torch

from app.core.jobs import Phase
from app.core.profile import HostProfile
from app.engine.devices import device_name, memory_info, release_host_cache
from app.engine.host_memory import segments_grow
from app.engine.residency.cuda_transfers import CudaTransfers
from app.engine.residency.transfers import DirectTransfers, Transfers


class ComputeDevice(Protocol):
    """A device as the engine uses it.

    Attributes:
        torch_device: Where tensors for it are made.
        name: For people, and the key of presets and calibration.
        kind: "cuda", "rocm", "xpu" or "cpu".
        total_bytes: Its memory; the CPU's is the computer's RAM.
        simulated: Whether it only keeps accounts like a GPU.
        transfers: How weights come to it.
    """

    @property
    def torch_device(self) -> torch.device: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def transfers(self) -> Transfers: ...

    def free_bytes(self) -> int:
        """What a run of ours can have now: free, and what our allocator could give back."""
        ...

    def allocated_bytes(self) -> int:
        """Held by our tensors; on the CPU by the process."""
        ...

    def reserved_bytes(self) -> int:
        """Held by our allocator, in use or not."""
        ...

    def peak_bytes(self) -> int:
        """The largest `allocated_bytes` since `reset_peak`."""
        ...

    def reset_peak(self) -> None:
        """Forget the peak."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has computed what it was told; copies of weights may go on."""
        ...

    def release_cached(self) -> None:
        """Give memory that no tensor uses back to the driver, and locked RAM to the system."""
        ...

    def release_left(self) -> None:
        """Give memory that weights have left back to the driver, where it would be splintered.

        Segments that cannot grow are cut for the next weights, which have other sizes, and what
        is left over of each is lost.
        """
        ...

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in RAM, of its own memory."""
        ...

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same on the device.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        ...

    def watch(
        self, phase: Phase, *, step: int = 0
    ) -> contextlib.AbstractContextManager[None, bool | None]:
        """Around what a phase computes.

        Args:
            phase: Which.
            step: Denoising steps that were done before, when a run goes on.
        """
        ...

    def note_step(self, step: int) -> None:
        """Say within `watch` that this many denoising steps are done."""
        ...

    def on_host(self) -> contextlib.AbstractContextManager[None, bool | None]:
        """Around what is computed by the CPU within `watch`, with tensors and weights in RAM."""
        ...

    def host_profile(self) -> HostProfile:
        """The computer's RAM as it is now."""
        ...

    def clock_s(self) -> float:
        """Seconds by the clock that runs of this device are timed with."""
        ...


class _RealDevice:
    """What the CPU and GPUs have in common: the system's own clock and RAM, and no accounts."""

    simulated = False

    @contextlib.contextmanager
    def watch(self, phase: Phase, *, step: int = 0) -> Generator[None]:
        """Nobody has to watch it."""
        del phase, step
        yield

    def note_step(self, step: int) -> None:
        """Nothing to note."""

    @contextlib.contextmanager
    def on_host(self) -> Generator[None]:
        """Nothing to do."""
        yield

    def host_profile(self) -> HostProfile:
        """What the system says."""
        return read_host_profile()

    def clock_s(self) -> float:
        """`time.perf_counter`."""
        return time.perf_counter()


class CpuDevice(_RealDevice):
    """The processor: weights and everything else are in RAM anyway."""

    torch_device = torch.device("cpu")
    kind = "cpu"

    def __init__(self) -> None:
        self.name = device_name(torch.device("cpu"))
        self.total_bytes = int(psutil.virtual_memory().total)
        self.transfers = DirectTransfers()
        self._process = psutil.Process()
        self._peak_bytes = 0

    def free_bytes(self) -> int:
        """RAM that is available without swapping."""
        return int(psutil.virtual_memory().available)

    def allocated_bytes(self) -> int:
        """Resident memory of the process."""
        held = int(self._process.memory_info().rss)
        self._peak_bytes = max(self._peak_bytes, held)
        return held

    def reserved_bytes(self) -> int:
        """Resident memory of the process."""
        return self.allocated_bytes()

    def peak_bytes(self) -> int:
        """The largest that was seen when it was asked for; `MemoryMeter` knows it better."""
        self.allocated_bytes()
        return self._peak_bytes

    def reset_peak(self) -> None:
        """Forget the peak."""
        self._peak_bytes = 0

    def synchronize(self) -> None:
        """The CPU has always done what it was told."""

    def release_cached(self) -> None:
        """The CPU's allocator keeps nothing back."""

    def release_left(self) -> None:
        """Weights are where they always were."""

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy, of its own memory."""
        return tensor.detach().clone()

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return tensor


class AcceleratorDevice(_RealDevice):
    """A GPU of torch.cuda (NVIDIA, AMD) or torch.xpu (Intel). Not tried on a real GPU."""

    def __init__(self, device: torch.device) -> None:
        """Take a device that `pick_device` has found."""
        self.torch_device = device
        # They look alike, and neither has full types.
        self._backend: Any = torch.cuda if device.type == "cuda" else torch.xpu
        # Memory that is locked, and what libraries allocate, goes by the thread's current device;
        # another one would get a context of hundreds of megabytes for nothing.
        self._backend.set_device(device)
        self.name = device_name(device)
        self.kind = "rocm" if device.type == "cuda" and torch.version.hip else device.type
        self.total_bytes = memory_info(device)[1]
        self.transfers = CudaTransfers(device)

    def free_bytes(self) -> int:
        """Free for all, with blocks of our allocator that are whole and unused."""
        backend = self._backend
        free = memory_info(self.torch_device)[0]
        # Parts of blocks that are in use elsewhere cannot be given back.
        split = int(
            backend.memory_stats(self.torch_device).get("inactive_split_bytes.all.current", 0)
        )
        return free + max(0, self.reserved_bytes() - self.allocated_bytes() - split)

    def allocated_bytes(self) -> int:
        """Held by our tensors."""
        return int(self._backend.memory_allocated(self.torch_device))

    def reserved_bytes(self) -> int:
        """Held by torch's allocator."""
        return int(self._backend.memory_reserved(self.torch_device))

    def peak_bytes(self) -> int:
        """The largest `allocated_bytes` since `reset_peak`."""
        return int(self._backend.max_memory_allocated(self.torch_device))

    def reset_peak(self) -> None:
        """Forget the peak."""
        self._backend.reset_peak_memory_stats(self.torch_device)

    def synchronize(self) -> None:
        """Wait for the stream that computes: weights for the next step may be on their way."""
        self._backend.current_stream(self.torch_device).synchronize()

    def release_cached(self) -> None:
        """Empty the allocator's cache, and that of locked RAM."""
        self._backend.empty_cache()
        release_host_cache(self.torch_device)

    def release_left(self) -> None:
        """Empty the allocator's cache, if its segments cannot grow."""
        if not segments_grow(self.kind):
            self._backend.empty_cache()

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in RAM."""
        return tensor.detach().to("cpu", copy=True)

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy, or the tensor itself when it is there."""
        return tensor.to(self.torch_device)


def read_host_profile() -> HostProfile:
    """RAM and swap as the system tells them now."""
    ram, swap = psutil.virtual_memory(), psutil.swap_memory()
    return HostProfile(
        total_bytes=int(ram.total),
        available_bytes=int(ram.available),
        swap_free_bytes=int(swap.free),
    )


def real_device(device: torch.device) -> ComputeDevice:
    """The device that `pick_device` has found, as a `ComputeDevice`."""
    return CpuDevice() if device.type == "cpu" else AcceleratorDevice(device)
