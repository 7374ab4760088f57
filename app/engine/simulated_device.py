"""A GPU that is not there: the CPU computes, and accounts are kept as a GPU would have them.

Memory, other programs, speed and failures follow a story (`app.engine.simulated_story`). The clock
is virtual, so that a slow device costs no time. What the CPU computes does not depend on the story:
the pictures are those of the CPU.

A tensor is counted when an operation that is watched makes it, and until its last use ends. Weights
are really copied, in RAM, and what computes with weights that are not there, or have not come yet,
fails as it would on a GPU. A few things of a GPU have no account: its allocator's cache and
fragmentation, workspace of its libraries (`Story.context_bytes` may stand for it).
"""

import contextlib
from collections.abc import Generator

import torch

from app.core.jobs import Phase
from app.core.profile import HostProfile
from app.core.units import format_bytes
from app.engine.compute_device import read_host_profile
from app.engine.live_storages import block_bytes
from app.engine.one_kernel import OneKernel
from app.engine.simulated_accounts import Accounts
from app.engine.simulated_story import FailureKind, Story
from app.engine.simulated_transfers import SimulatedTransfers
from app.engine.story_timeline import Timeline


class SimulatedDevice:
    """A device of a story, for one thread."""

    torch_device = torch.device("cpu")
    simulated = True

    def __init__(self, story: Story) -> None:
        """Begin the story."""
        self.story = story
        self.name = story.name
        self.kind = story.kind
        self.total_bytes = story.capacity_bytes
        self._timeline = Timeline(story)
        self._accounts = Accounts(self)
        self._kernels = OneKernel(self._accounts.run_as_one)
        self.transfers = SimulatedTransfers(self, self._timeline, story.copy_bytes_per_s)
        self._peak_bytes = 0

    def free_bytes(self) -> int:
        """What neither we nor other programs hold."""
        ours = self.story.context_bytes + self.allocated_bytes()
        return max(0, self.total_bytes - ours - self.others_bytes())

    def others_bytes(self) -> int:
        """Held by other programs now."""
        return self._timeline.others_bytes()

    def weights_bytes(self) -> int:
        """Of weights on the device, and of slots for them."""
        return self.transfers.held_bytes

    def working_bytes(self) -> int:
        """Of tensors that were made by what was watched, and are alive."""
        return int(self._accounts.held_bytes * self.story.working_factor)

    def allocated_bytes(self) -> int:
        """Weights and working memory."""
        return self.weights_bytes() + self.working_bytes()

    def reserved_bytes(self) -> int:
        """The same: nothing is kept in a cache."""
        return self.allocated_bytes()

    def peak_bytes(self) -> int:
        """The largest `allocated_bytes` since `reset_peak`."""
        return self._peak_bytes

    def reset_peak(self) -> None:
        """Let the peak begin at what is held now."""
        self._peak_bytes = self.allocated_bytes()

    def synchronize(self) -> None:
        """The host has waited for all that was computed."""
        self.transfers.synchronize()

    def release_cached(self) -> None:
        """Nothing is kept in a cache."""

    def release_left(self) -> None:
        """Nothing is kept in a cache."""

    def take_buffer(self, size_bytes: int) -> None:
        """See whether there is room for weights or slots.

        Raises:
            torch.OutOfMemoryError: There is not.
        """
        self.begin()
        self._take(size_bytes)

    def keep_off(self, weights: torch.Tensor) -> None:
        """Refuse to compute with these: they are in RAM."""
        self._accounts.keep_off(weights)

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """Whether it lies where a copy has not ended."""
        return self.transfers.is_missing(tensor)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy that is not counted."""
        with self.on_host():
            return tensor.detach().clone()

    def to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy that is counted, or the tensor itself when it is.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        if self._accounts.counts(tensor):
            return tensor
        self._copy(tensor.nbytes, self._counted(block_bytes(tensor.nbytes)))
        with self.on_host():
            copy = tensor.detach().clone()
        self._accounts.count(copy)
        return copy

    @contextlib.contextmanager
    def watch(self, phase: Phase, *, step: int = 0) -> Generator[None]:
        """Count what is made within, and let the story go on."""
        self._timeline.enter(phase, step)
        with self._kernels, self._accounts:
            yield

    def note_step(self, step: int) -> None:
        """Let the story go on."""
        self._timeline.note_step(step)

    @contextlib.contextmanager
    def on_host(self) -> Generator[None]:
        """Count nothing."""
        with self._accounts.off():
            yield

    def host_profile(self) -> HostProfile:
        """The story's computer, or the real one."""
        return self.story.host or read_host_profile()

    def clock_s(self) -> float:
        """Virtual seconds since the story began."""
        return self._timeline.seconds

    def let_pass(self, seconds: float) -> None:
        """Nothing is done for so long."""
        self._timeline.seconds += seconds

    @property
    def operations(self) -> int:
        """That were begun so far."""
        return self._timeline.operations

    def begin(self) -> None:
        """An operation begins; it may be one that fails in the story."""
        failure = self._timeline.begin_operation()
        if failure is not None:
            raise self._error(failure.kind, 0)

    def finish(self, new_bytes: int, flops: int) -> None:
        """An operation ran; see whether there is room for its result.

        Raises:
            torch.OutOfMemoryError: There is not.
        """
        self._take(self._counted(new_bytes))
        self._timeline.seconds += _seconds(flops, self.story.tflops * 1e12)

    def _copy(self, size_bytes: int, taken_bytes: int) -> None:
        self.begin()
        self._take(taken_bytes)
        self._timeline.seconds += _seconds(size_bytes, self.story.copy_bytes_per_s)

    def _take(self, new_bytes: int) -> None:
        if new_bytes and new_bytes > self.free_bytes():
            raise self._error(FailureKind.DEVICE, new_bytes)
        self._peak_bytes = max(self._peak_bytes, self.allocated_bytes() + new_bytes)

    def _counted(self, new_bytes: int) -> int:
        return int(new_bytes * self.story.working_factor)

    def _error(self, kind: FailureKind, new_bytes: int) -> Exception:
        if kind is FailureKind.HOST:
            return MemoryError("the story says that RAM is used up")
        if kind is FailureKind.DRIVER:
            return torch.AcceleratorError("CUDA error: out of memory")
        if kind is FailureKind.LIBRARY:
            return RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            )
        return torch.OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {format_bytes(new_bytes)}. "
            f"{self.name} has a total capacity of {format_bytes(self.total_bytes)} "
            f"of which {format_bytes(self.free_bytes())} is free. "
            f"This process has {format_bytes(self.allocated_bytes())} memory in use, "
            f"other programs have {format_bytes(self.others_bytes())}."
        )


def _seconds(amount: float, per_s: float) -> float:
    return amount / per_s if per_s > 0 else 0.0
