"""Tensors of a pretend GPU: they say that they are there, and their values are in RAM.

Whatever torch would do with them on the device is done with what they hold, by the CPU.
"""

import functools
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fakes.pretend_cuda_memory import Allocation
from tests.fakes.pretend_cuda_rules import COPIES, check_devices, check_product, why_host_waits

DEVICE = torch.device("cuda", 0)
_IN_RAM = torch.device("cpu")


class DeviceBehind(Protocol):
    """What tensors ask of the device they pretend to be on."""

    def memory_of(self, tensor: torch.Tensor) -> Allocation | None:
        """The memory that a tensor in RAM stands for."""
        ...

    def note_operation(self, name: str, used: list[tuple[Allocation, int, int]]) -> None:
        """Something is computed."""
        ...

    def note_wait(self, why: str) -> None:
        """The host waits for what is computed."""
        ...

    def copy_in(self, target: "PretendTensor", source: torch.Tensor, *, at_once: bool) -> bool:
        """Whether a copy from RAM was taken over; it is not to be made here then."""
        ...

    def pin(self, tensor: torch.Tensor) -> None:
        """A tensor in RAM was asked for in locked memory."""
        ...


class PretendTensor(torch.Tensor):
    """A tensor on the device.

    Attributes:
        held: Its values, with the same sizes and strides.
        allocation: Its memory on the device; None when it has none.
        behind: The device.
    """

    held: torch.Tensor
    allocation: Allocation | None
    behind: DeviceBehind

    @staticmethod
    def __new__(
        cls: Any, held: torch.Tensor, allocation: Allocation | None, behind: DeviceBehind
    ) -> "PretendTensor":
        """Take a tensor in RAM."""
        make: Any = torch.Tensor._make_wrapper_subclass
        made: PretendTensor = make(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held, made.allocation, made.behind = held, allocation, behind
        return made

    # What torch has for subclasses whose results are made elsewhere; it has no types.
    __torch_function__: Any = getattr(torch._C, "_disabled_torch_function_impl")  # noqa: B009

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Where no mode is on: in threads that nobody told of the device, and for these only."""
        del types
        found = _tensors(args, kwargs or {})
        behind = next(one.behind for one in found if isinstance(one, PretendTensor))
        return run(behind, func, args, kwargs or {})

    def __repr__(self, **_options: Any) -> str:
        return f"on the device: {self.held!r}"

    def data_ptr(self) -> int:
        """An address that nobody may read at."""
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Of the values in RAM."""
        return self.held.untyped_storage()

    def numpy(self, **_options: Any) -> Any:
        """As torch refuses it."""
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )

    def __array__(self, *_options: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """Copies to RAM first."""
        return self.cpu().tolist()

    def record_stream(self, s: Any) -> None:
        """Tell the allocator that another stream uses this memory."""
        if self.allocation is not None:
            self.allocation.seen_by.add(s)

    def used(self) -> list[tuple[Allocation, int, int]]:
        """The memory it covers."""
        if self.allocation is None:
            return []
        begin = self.held.data_ptr()
        return [(self.allocation, begin, begin + _span_bytes(self.held))]


class PretendMode(TorchDispatchMode):
    """Makes tensors on the device in one thread."""

    def __init__(self, behind: DeviceBehind) -> None:
        base: Any = super()
        base.__init__()
        self._behind = behind

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch's compiler would be imported for it."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation."""
        del types
        return run(self._behind, func, args, kwargs or {})


def run(behind: DeviceBehind, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what torch does for an operation: on the device, in RAM, or between the two."""
    given = _tensors(args, kwargs)
    on_device = [one for one in given if isinstance(one, PretendTensor)]
    # Most of what is run are views, of which nothing is computed or kept.
    if not kwargs and (not on_device or (len(given) == 1 and _is_one_view(func))):
        found = func(*map(_held, args))
        return PretendTensor(found, on_device[0].allocation, behind) if on_device else found
    pins = kwargs.get("pin_memory")
    if pins:
        kwargs = {**kwargs, "pin_memory": False}
    goes_to = kwargs.get("device")
    target = torch.device(goes_to) if goes_to is not None else None
    if target is not None and target.type == "cuda":
        kwargs = {**kwargs, "device": _IN_RAM}
    elif not on_device:
        found = func(*args, **kwargs)
        if pins:
            behind.pin(found)
        return found
    name = _name(func)
    in_ram = [one for one in given if not isinstance(one, PretendTensor)]
    if on_device and in_ram:
        check_devices(name, in_ram)
    if name == "copy_" and isinstance(args[0], PretendTensor) and in_ram:
        at_once = not _non_blocking(func, args, kwargs)
        if behind.copy_in(args[0], in_ram[0], at_once=at_once):
            return args[0]
    inner_args = tuple(map(_held, args))
    inner_kwargs = {key: _held(one) for key, one in kwargs.items()}
    check_product(name, inner_args, inner_kwargs)
    if not _is_view(func):
        behind.note_operation(name, [part for one in on_device for part in one.used()])
    if why := _wait(func, name, args, kwargs, in_ram, on_device, target):
        behind.note_wait(why)
    found = func(*inner_args, **inner_kwargs)
    if target is not None and target.type != "cuda":
        return found
    return _given_out(behind, found, on_device, in_ram, to_ram=name == "copy_")


def _wait(
    func: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    in_ram: list[torch.Tensor],
    on_device: list[PretendTensor],
    target: torch.device | None,
) -> str:
    if name not in COPIES:
        return why_host_waits(name, args, in_ram)
    to_ram = bool(on_device) and (
        (target is not None and target.type == "cpu") or not isinstance(args[0], PretendTensor)
    )
    from_ram = bool(in_ram) and not to_ram
    if to_ram:
        return "a copy to RAM"
    return "a copy from RAM" if from_ram and not _non_blocking(func, args, kwargs) else ""


def _given_out(
    behind: DeviceBehind,
    found: Any,
    on_device: Sequence[PretendTensor],
    in_ram: Sequence[torch.Tensor],
    *,
    to_ram: bool,
) -> Any:
    """What an operation gave, as tensors on the device."""
    if isinstance(found, torch.Tensor):
        for one in on_device:
            if one.held is found:
                if one.shape != found.shape or one.stride() != found.stride():
                    raise NotImplementedError("the pretend GPU's tensors keep their shapes")
                return one
        if any(one is found for one in in_ram) and on_device:
            if not to_ram:
                raise RuntimeError("Expected all tensors to be on the same device: cpu is written")
            return found
        return PretendTensor(found, behind.memory_of(found), behind)
    if isinstance(found, list | tuple):
        several = [
            _given_out(behind, one, on_device, in_ram, to_ram=to_ram)
            for one in cast("list[Any]", found)
        ]
        return several if isinstance(found, list) else tuple(several)
    return found


def _held(value: Any) -> Any:
    """Arguments with what their tensors hold."""
    if isinstance(value, PretendTensor):
        return value.held
    if isinstance(value, list):
        return [_held(one) for one in cast("list[Any]", value)]
    if type(value) is tuple:
        return tuple(_held(one) for one in cast("tuple[Any, ...]", value))
    return value


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Of one operation; it is asked a hundred thousand times in a test, so without a recursion."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            # Operations take no lists of lists.
            several = cast("Sequence[Any]", value)
            found.extend(one for one in several if isinstance(one, torch.Tensor))
    return found


def _non_blocking(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if "non_blocking" in kwargs:
        return bool(kwargs["non_blocking"])
    names = [argument.name for argument in func._schema.arguments]
    place = names.index("non_blocking")
    return place < len(args) and bool(args[place])


def _span_bytes(tensor: torch.Tensor) -> int:
    """From the first to behind the last element."""
    if tensor.numel() == 0:
        return 0
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * stride for size, stride in sizes)) * tensor.element_size()


@functools.cache
def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::")


@functools.cache
def _is_one_view(func: Any) -> bool:
    """Whether it gives one tensor in the memory of the one that it is given."""
    results = func._schema.returns
    alias = results[0].alias_info if len(results) == 1 else None
    return alias is not None and not alias.is_write and str(results[0].type) == "Tensor"


@functools.cache
def _is_view(func: Any) -> bool:
    """Whether nothing is computed for it."""
    aliases = [result.alias_info for result in func._schema.returns]
    makes_only = _name(func).startswith(("empty", "new_empty"))
    return makes_only or any(alias is not None and not alias.is_write for alias in aliases)
