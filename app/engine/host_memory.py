"""Settings of torch and its allocators, and giving back what they keep.

Allocators keep what is freed for the next time. Over a long session with changing sizes that
splinters: the device is full of pieces none of which is large enough.
"""

import ctypes
import functools
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass

ALLOCATOR_VARIABLE = "PYTORCH_ALLOC_CONF"
OLDER_VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
_OLDER_VARIABLES = (OLDER_VARIABLE, "PYTORCH_HIP_ALLOC_CONF")
_HEEDS_NEW_NAME = (2, 11)
"""Torch 2.9 takes the new name for granted and ignores this setting under it (pytorch#183387);
2.11 heeds it. The older name works in all of them, with a word about its age."""
_GROWING = "expandable_segments:True"
_ORDER_VARIABLE = "CUDA_DEVICE_ORDER"
_SEARCH_ON_AMD = "MIOPEN_FIND_MODE"
_FUSED_ON_AMD = "TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL"
KERNELS_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = "256"
"""Compiled kernels that are kept on the CPU, one for each layer and size, by oneDNN and once more
by torch above it: enough for a few sizes of a model. Their own 1024 let an engine that is given
ever other sizes grow for a long time."""
RELEASE_SHARE = 0.1
"""Of the device's memory: what is kept beyond this, and not used, is given back after a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What decides how torch's allocator can be set, and what drivers do with memory.

    Attributes:
        platform: As `sys.platform`.
        release: Of the system, as `platform.release()`.
        torch_version: That is installed, such as "2.13.0+cu130"; "" for none.
    """

    platform: str
    release: str = ""
    torch_version: str = ""

    @property
    def is_wsl(self) -> bool:
        """Whether this is Linux within Windows."""
        return self.platform == "linux" and "microsoft" in self.release.lower()

    @property
    def moves_vram(self) -> bool:
        """Whether drivers move to RAM what a GPU has no room for, instead of saying so."""
        return self.platform == "win32" or self.is_wsl

    @property
    def can_grow(self) -> bool:
        """Whether segments that grow work here, where the GPU is NVIDIA's."""
        # WSL refuses their calls to the driver, as if memory had run out (pytorch#192330).
        return self.platform == "linux" and not self.is_wsl

    @property
    def variable(self) -> str:
        """The name under which this torch takes the setting."""
        version = re.match(r"(\d+)\.(\d+)", self.torch_version)
        heeds = version is None or (int(version[1]), int(version[2])) >= _HEEDS_NEW_NAME
        return ALLOCATOR_VARIABLE if heeds else OLDER_VARIABLE


@functools.cache
def this_system() -> System:
    """The one we run on."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return System(platform=sys.platform, release=platform.release(), torch_version=version)


def choose_torch_settings(
    environment: MutableMapping[str, str], *, system: System | None = None
) -> None:
    """Choose how torch keeps memory, numbers GPUs and picks kernels; before it is imported.

    Memory is to stay whole over a long session. On Linux torch's allocator for NVIDIA grows its
    segments instead of adding others: the driver's part of this does not exist on Windows. On Intel
    they made GPUs hang (torch-xpu-ops#4427). On AMD, torch has kernels of attention for many GPUs
    that it uses only when told to; without them whole matrices of scores are made. What the user
    has chosen stays. Not tried on a real GPU.
    """
    system = system or this_system()
    for name in KERNELS_VARIABLES:
        environment.setdefault(name, KERNELS)
    environment.setdefault(_FUSED_ON_AMD, "1")
    # Else the first decode at each size tries all convolutions, for minutes up to half an hour.
    environment.setdefault(_SEARCH_ON_AMD, "FAST")
    # Numbered as drivers and their tools do: CUDA alone would put the fastest first.
    environment.setdefault(_ORDER_VARIABLE, "PCI_BUS_ID")
    chosen = any(name in environment for name in (ALLOCATOR_VARIABLE, *_OLDER_VARIABLES))
    build = system.torch_version.partition("+")[2]
    if system.can_grow and not build.startswith(("rocm", "xpu")) and not chosen:
        environment[system.variable] = _GROWING


def segments_grow(
    kind: str, environment: Mapping[str, str] = os.environ, *, system: System | None = None
) -> bool:
    """Whether torch's allocator will grow its segments on a device, as far as can be told here.

    Args:
        kind: "cuda", "rocm", "xpu" or "cpu".
        environment: In which the engine will start.
        system: The one it will run on; None is this.
    """
    system = system or this_system()
    if kind != "cuda" or system.platform != "linux":
        return False
    for name in (ALLOCATOR_VARIABLE, *_OLDER_VARIABLES):
        if name in environment:
            return _GROWING.lower() in environment[name].lower()
    return system.can_grow


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
