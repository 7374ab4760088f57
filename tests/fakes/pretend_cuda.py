"""A pretend NVIDIA GPU for a torch that was built for the CPU alone.

Tensors on it refuse to be mixed with others, its memory has an end, copies beside the computing are
late, and torch.cuda tells of it. What it computes, the CPU computes: it shows where something goes
to the wrong place, waits for nothing, or waits where it should not, and says nothing of speed.
"""

import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.fakes.pretend_cuda_guard import cuda_named
from tests.fakes.pretend_cuda_memory import Allocation, PretendMemory
from tests.fakes.pretend_cuda_rules import check_attention
from tests.fakes.pretend_cuda_streams import PretendEvent, PretendStream, Timeline
from tests.fakes.pretend_cuda_tensors import DEVICE, PretendMode, PretendTensor

GIB = 1 << 30
NAME = "Pretend GPU"
_REFUSED, _NOT_REGISTERED = 712, 713
"""cudaErrorHostMemoryAlreadyRegistered and cudaErrorHostMemoryNotRegistered."""
_NO_MEMORY = 2
_ASK_THE_DRIVER = frozenset({"mem_get_info", "empty_cache", "synchronize", "Stream", "stream"})


class SyncError(RuntimeError):
    """The host would wait, which was forbidden."""


class PretendGpu:
    """The device.

    Attributes:
        memory: Of the device.
        timeline: What it was told.
        locked: RAM that was locked where it is: sizes by address.
        lock_limit_bytes: No more is.
        has_bf16: Whether it computes in bf16.
    """

    def __init__(self, capacity_bytes: int = GIB) -> None:
        self.memory = PretendMemory(capacity_bytes)
        self.timeline = Timeline()
        self.locked: dict[int, int] = {}
        self.lock_limit_bytes = capacity_bytes
        self.has_bf16 = True
        self._pinned: dict[int, int] = {}
        self._sticky = ""
        self._sync_mode = "default"

    # What tensors ask.

    def memory_of(self, tensor: torch.Tensor) -> Allocation | None:
        """The memory that a tensor in RAM stands for."""
        return self.memory.of(tensor, self.timeline.on_free)

    def note_operation(self, name: str, used: list[tuple[Allocation, int, int]]) -> None:
        """Something is computed; an error that was left behind is found now."""
        sticky, self._sticky = self._sticky, ""
        if sticky:
            raise RuntimeError(f"CUDA error: {sticky}")
        self.timeline.note_operation(name, used)

    def note_wait(self, why: str) -> None:
        """The host waits for what is computed."""
        if self._sync_mode == "error":
            raise SyncError(f"called a synchronizing CUDA operation: {why}")
        self.timeline.note_host_wait(why)

    def copy_in(self, target: PretendTensor, source: torch.Tensor, *, at_once: bool) -> bool:
        """Whether a copy from RAM is told to another stream."""
        stream = self.timeline.current
        if stream.is_compute or target.allocation is None:
            if not at_once and not self.is_pinned(source):
                self.timeline.host_waits.append("a copy from RAM that is not locked")
            return False
        stream.copy(target.held, source, target.allocation)
        if at_once or not self.is_pinned(source):
            self.timeline.host_waits.append("a copy from RAM that is not locked")
            stream.finish()
        return True

    def pin(self, tensor: torch.Tensor) -> None:
        """A tensor in RAM was asked for in locked memory."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        self._pinned[address] = storage.nbytes()
        weakref.finalize(storage, self._pinned.pop, address, None)

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether all of a tensor is in locked RAM."""
        if tensor.device.type != "cpu":
            return False
        begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        places = (*self._pinned.items(), *self.locked.items())
        return any(at <= begin and end <= at + size for at, size in places)

    # What the driver's runtime does.

    def register(self, address: int, size_bytes: int, flags: int) -> int:
        """cudaHostRegister."""
        assert flags == 1, "not for every device"
        if any(
            at < address + size_bytes and address < at + size for at, size in self.locked.items()
        ):
            self._sticky = "part or all of the requested memory range is already mapped"
            return _REFUSED
        if sum(self.locked.values()) + size_bytes > self.lock_limit_bytes:
            self._sticky = "out of memory"
            return _NO_MEMORY
        self.locked[address] = size_bytes
        return 0

    def unregister(self, address: int) -> int:
        """cudaHostUnregister."""
        if self.locked.pop(address, None) is None:
            self._sticky = "pointer does not correspond to a registered memory region"
            return _NOT_REGISTERED
        return 0

    # torch.cuda.

    def namespace(self) -> dict[str, Any]:
        """What is put in the place of torch.cuda's functions."""
        memory, timeline = self.memory, self.timeline
        return {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": _check_device,
            "device": _on_device,
            "get_device_name": _told(NAME),
            "get_device_capability": _told((8, 9)),
            "get_device_properties": _told(
                SimpleNamespace(
                    name=NAME,
                    total_memory=memory.capacity_bytes,
                    major=8,
                    minor=9,
                    multi_processor_count=16,
                )
            ),
            "is_bf16_supported": lambda including_emulation=True: (
                self.has_bf16 or including_emulation
            ),
            "mem_get_info": lambda device=None: (memory.free_bytes, memory.capacity_bytes),
            "memory_stats": lambda device=None: memory.stats(),
            "memory_allocated": lambda device=None: memory.allocated_bytes,
            "max_memory_allocated": lambda device=None: memory.peak_bytes,
            "memory_reserved": lambda device=None: memory.reserved_bytes,
            "max_memory_reserved": lambda device=None: memory.most_reserved_bytes,
            "set_per_process_memory_fraction": memory.limit,
            "reset_peak_memory_stats": self._reset_peak,
            "empty_cache": memory.empty_cache,
            "synchronize": lambda device=None: timeline.synchronize("torch.cuda.synchronize"),
            "Stream": self._stream_class(),
            "Event": self._event_class(),
            "current_stream": lambda device=None: timeline.current,
            "default_stream": lambda device=None: timeline.compute,
            "stream": self._in_stream,
            "cudart": lambda: SimpleNamespace(
                cudaHostRegister=self.register, cudaHostUnregister=self.unregister
            ),
            "set_sync_debug_mode": self._set_sync_mode,
            "manual_seed_all": lambda seed: None,
        }

    def _reset_peak(self, device: Any = None) -> None:
        _check_device(device)
        self.memory.reset_peak()

    def _stream_class(self) -> type[PretendStream]:
        """Libraries name the class, too."""
        timeline, real = self.timeline, torch.cuda.Stream.__new__

        class Stream(PretendStream):
            def __init__(self, *values: Any, **named: Any) -> None:
                given = inspect.signature(real).bind(None, *values, **named).arguments
                device = given.get("device")
                _check_device(device)
                super().__init__(timeline)
                timeline.streams.append(self)

        return Stream

    def _event_class(self) -> type[PretendEvent]:
        timeline, real = self.timeline, torch.cuda.Event.__new__

        class Event(PretendEvent):
            def __init__(self, **options: bool) -> None:
                inspect.signature(real).bind(None, **options)
                super().__init__(**options, timeline=timeline)

        return Event

    @contextlib.contextmanager
    def _in_stream(self, stream: PretendStream) -> Generator[None]:
        before, self.timeline.current = self.timeline.current, stream
        try:
            yield
        finally:
            self.timeline.current = before

    def _set_sync_mode(self, mode: str) -> None:
        self._sync_mode = mode


@contextlib.contextmanager
def pretend_gpu(capacity_bytes: int = GIB) -> Generator[PretendGpu]:
    """Have torch see a pretend GPU, in all threads that are started meanwhile."""
    # Torch notes which functions make tensors when it first needs them, and never looks again: it
    # is not to note those that are here for a while.
    with torch.device("meta"):
        torch.empty(0)
    gpu = PretendGpu(capacity_bytes)
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        stack.enter_context(cuda_named())
        for name, value in gpu.namespace().items():
            check = gpu.timeline.check if name in _ASK_THE_DRIVER else _works
            patch.setattr(torch.cuda, name, _called_as(getattr(torch.cuda, name), value, check))
        future: Any = torch.__future__
        patch.setattr(future, "get_overwrite_module_params_on_conversion", lambda: True)
        patch.setattr(torch.accelerator, "empty_host_cache", lambda: None)
        patch.setattr(torch.Tensor, "is_pinned", lambda tensor, device=None: gpu.is_pinned(tensor))
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: _pinned_copy(gpu, tensor))
        _patch_attention(patch)
        _patch_from_data(patch)
        _patch_threads(patch, gpu)
        stack.enter_context(PretendMode(gpu))
        yield gpu


def _works() -> None:
    """It does."""


def _called_as(real: Any, pretended: Any, check: Callable[[], None]) -> Any:
    """A function in the place of torch's own, that refuses calls which that would refuse."""
    if isinstance(pretended, type):
        return pretended
    signature = inspect.signature(real)

    @functools.wraps(pretended)
    def call(*values: Any, **named: Any) -> Any:
        signature.bind(*values, **named)
        check()
        return pretended(*values, **named)

    return call


def _pinned_copy(gpu: PretendGpu, tensor: torch.Tensor) -> torch.Tensor:
    copied = tensor.clone()
    gpu.pin(copied)
    return copied


def _patch_attention(patch: pytest.MonkeyPatch) -> None:
    """Torch chooses by the device, and would take the slowest way for one it was not built for."""
    plain: Any = torch.nn.functional.scaled_dot_product_attention

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **options: Any) -> Any:
        if not isinstance(query, PretendTensor):
            return plain(query, key, value, attn_mask=attn_mask, **options)
        if not all(
            isinstance(one, PretendTensor) or one is None for one in (key, value, attn_mask)
        ):
            raise RuntimeError("Expected query, key, value and attn_mask on the same device")
        check_attention(query, attn_mask)
        behind = query.behind
        used = [part for one in (query, key, value) for part in one.used()]
        behind.note_operation("scaled_dot_product_attention", used)
        mask = None if attn_mask is None else attn_mask.held
        with _any_of_the_cpu():
            found = plain(query.held, key.held, value.held, attn_mask=mask, **options)
        return PretendTensor(found, behind.memory_of(found), behind)

    patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


@contextlib.contextmanager
def _any_of_the_cpu() -> Generator[None]:
    """The CPU has none of some kinds; where only the plain one is on, it stays so."""
    attention: Any = torch.nn.attention
    backends: Any = torch.backends.cuda
    kinds = [attention.SDPBackend.MATH]
    if (
        backends.flash_sdp_enabled()
        or backends.mem_efficient_sdp_enabled()
        or backends.cudnn_sdp_enabled()
    ):
        kinds.append(attention.SDPBackend.FLASH_ATTENTION)
    with attention.sdpa_kernel(kinds):
        yield


def _patch_from_data(patch: pytest.MonkeyPatch) -> None:
    """What is made of Python's numbers is copied past every mode."""
    plain: Any = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Any:
        found = plain(data, **options)
        return found if device is None else found.to(device)

    patch.setattr(torch, "tensor", tensor)


def _patch_threads(patch: pytest.MonkeyPatch, gpu: PretendGpu) -> None:
    plain = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        with PretendMode(gpu):
            plain(thread)

    patch.setattr(threading.Thread, "run", run)


def _check_device(device: Any = None) -> None:
    if device is not None and device != 0:
        assert torch.device(device) in {DEVICE, torch.device("cuda")}, device


@contextlib.contextmanager
def _on_device(device: Any) -> Generator[None]:
    _check_device(device)
    yield


def _told(value: Any) -> Any:
    def tell(device: Any = None) -> Any:
        _check_device(device)
        return value

    return tell
