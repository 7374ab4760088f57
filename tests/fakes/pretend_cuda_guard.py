"""A torch that was built for the CPU alone, made to name CUDA devices in what it does.

Torch asks a guard of each kind of device which one is current, also for tensors whose operations
never reach it, and there is none for CUDA in such a build. One can only be registered from C++, but
torch has one that is written in Python, for devices that are not its own: it is put in CUDA's place
as well, in the table that libc10 exports.
"""

import contextlib
import ctypes
import functools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

_TABLE = "_ZN3c104impl26device_guard_impl_registryE"
"""c10::impl::device_guard_impl_registry, a pointer for each kind of device."""
_LIBRARIES = ("libc10.so", "libc10.dylib")


@functools.cache
def _table() -> Any:  # an array of pointers, or None
    folder = Path(torch.__file__).parent / "lib"
    for name in _LIBRARIES:
        if (folder / name).exists():
            kinds: Any = getattr(torch, "_C")._autograd.DeviceType  # noqa: B009 - has no types
            pointers = ctypes.c_void_p * (int(kinds.PrivateUse1) + 1)
            try:
                return pointers.in_dll(ctypes.CDLL(str(folder / name)), _TABLE)
            except ValueError:
                return None
    return None


@functools.cache
def _guard() -> tuple[Any, int]:
    """The guard, which must live as long as the process, and where it is."""
    core: Any = getattr(torch, "_C")  # noqa: B009 - has no types
    kinds = core._autograd.DeviceType

    class _Guard(core._acc.DeviceGuard):
        def type_(self) -> Any:
            return kinds.CUDA

    guard, table, own = _Guard(), _table(), int(kinds.PrivateUse1)
    before = table[own]
    core._acc.register_python_privateuseone_device_guard(guard)
    address, table[own] = table[own], before
    return guard, address


def can_pretend() -> bool:
    """Whether this torch has no CUDA, guards in Python, and its table where it is looked for."""
    core: Any = getattr(torch, "_C")  # noqa: B009 - has no types
    has_cuda = torch.version.cuda is not None or torch.version.hip is not None
    # Older versions that the app runs with have no guards in Python.
    makes_guards = hasattr(getattr(core, "_acc", None), "DeviceGuard")
    return not has_cuda and makes_guards and _table() is not None


def device_guards() -> list[int | None]:
    """Where the guard of each kind of device is."""
    return list(_table())


@contextlib.contextmanager
def cuda_named() -> Generator[None]:
    """Have torch do what it does with tensors of CUDA devices."""
    core: Any = getattr(torch, "_C")  # noqa: B009 - has no types
    place, table = int(core._autograd.DeviceType.CUDA), _table()
    before = table[place]
    table[place] = _guard()[1]
    try:
        yield
    finally:
        table[place] = before
