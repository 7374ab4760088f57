"""Settings of the allocators, and giving back what they keep.

Allocators keep what is freed for the next time. Over a long session with changing sizes that
splinters: the device is full of pieces none of which is large enough.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping

ALLOCATOR_VARIABLE = "PYTORCH_ALLOC_CONF"
_OLDER_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
KERNELS_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = "256"
"""Compiled kernels that are kept on the CPU, one for each layer and size, by oneDNN and once more
by torch above it: enough for a few sizes of a model. Their own 1024 let an engine that is given
ever other sizes grow for a long time."""
RELEASE_SHARE = 0.1
"""Of the device's memory: what is kept beyond this, and not used, is given back after a job."""


def choose_allocator_settings(
    environment: MutableMapping[str, str], *, platform: str = sys.platform
) -> None:
    """Choose what keeps memory whole over a long session; before torch is imported.

    On Linux torch's allocator grows its segments instead of adding others: the driver's part of
    this does not exist on Windows. What the user has chosen stays. Not tried on a real GPU.
    """
    for name in KERNELS_VARIABLES:
        environment.setdefault(name, KERNELS)
    chosen = any(name in environment for name in (ALLOCATOR_VARIABLE, *_OLDER_VARIABLES))
    if platform == "linux" and not chosen:
        environment[ALLOCATOR_VARIABLE] = "expandable_segments:True"


def segments_grow(
    kind: str, environment: Mapping[str, str] = os.environ, *, platform: str = sys.platform
) -> bool:
    """Whether torch's allocator will grow its segments on a device, as far as can be told here.

    Args:
        kind: "cuda", "rocm", "xpu" or "cpu".
        environment: In which the engine will start.
        platform: As `sys.platform`.
    """
    if kind != "cuda" or platform != "linux":
        return False
    for name in (ALLOCATOR_VARIABLE, *_OLDER_VARIABLES):
        if name in environment:
            return "expandable_segments:true" in environment[name].lower()
    return True


def should_release(*, reserved_bytes: int, allocated_bytes: int, total_bytes: int) -> bool:
    """Whether giving memory back after a job helps anybody: the next job would take it again.

    Args:
        reserved_bytes: Held by the allocator.
        allocated_bytes: Of that, in use.
        total_bytes: Of the device.
    """
    return reserved_bytes - allocated_bytes > RELEASE_SHARE * total_bytes


def give_back_host_memory() -> None:
    """Have the C library return the pages of freed memory, where it can be told to."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The malloc_trim of glibc; None elsewhere, where memory is returned without it."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
