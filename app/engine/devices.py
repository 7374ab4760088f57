"""Which device the engine works on, and in which precision."""

import logging
import os
import re
from collections.abc import Callable
from typing import Any

import torch

from app.core.errors import SetupError
from app.core.processor import cpu_device_name
from app.engine.host_memory import this_system

log = logging.getLogger(__name__)

OLDEST_MAJOR = 7
"""Compute capability below which a card is old, however much memory it has."""
_CHOICE = re.compile(r"auto|cpu|(cuda|xpu)(:\d+)?")


def pick_device(choice: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1", "xpu:0"; AMD's are "cuda" to torch.

    Raises:
        SetupError: There is no such device.
    """
    if not _CHOICE.fullmatch(choice):
        raise SetupError(
            f"“{choice}” is no device: choose auto, cpu, cuda:0 or xpu:0.", code="setup.device"
        )
    if choice == "auto":
        for kind in ("cuda", "xpu"):
            backend = _backend(kind)
            if backend.is_available():
                return torch.device(kind, _best(backend) if kind == "cuda" else 0)
        return torch.device("cpu")
    if choice == "cpu":
        return torch.device("cpu")
    kind, _, number = choice.partition(":")
    index = int(number or 0)
    backend = _backend(kind)
    count = backend.device_count() if backend.is_available() else 0
    if index >= count:
        raise SetupError(
            f"The device {choice} was asked for, but this torch ({torch.__version__}) "
            f"sees {count or 'none'} of its kind: choose “auto”, or install the torch build of "
            "your GPU.",
            code="setup.device",
        )
    return torch.device(kind, index)


def _best(backend: Any) -> int:  # noqa: ANN401 - torch.cuda
    """The number of the GPU with the most memory, as the monitor has it before there is an engine.

    The first of them may be the small graphics part of a processor, or an old card for the screen.
    """

    def worth(index: int) -> tuple[bool, int]:
        properties = backend.get_device_properties(index)
        return (int(properties.major) >= OLDEST_MAJOR, int(properties.total_memory))

    return max(range(backend.device_count()), key=worth)


def device_name(device: torch.device) -> str:
    """The device's name for people."""
    if device.type == "cpu":
        return cpu_device_name()
    return str(_backend(device.type).get_device_name(device))


def pci_address(device: torch.device) -> str:
    """Where a GPU sits, such as "0000:01:00.0": drivers number GPUs otherwise than torch does.

    "" where this torch does not tell it, as for Intel's.
    """
    if device.type != "cuda":
        return ""
    properties = _backend(device.type).get_device_properties(device)
    names = ("pci_domain_id", "pci_bus_id", "pci_device_id")
    domain, bus, slot = (getattr(properties, name, None) for name in names)
    if domain is None or bus is None or slot is None:
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def run_dtype(device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The precision weights are run in: as stored on the CPU, bf16 on a GPU that has it."""
    if device.type == "cpu":
        return stored
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody uses, with what our own allocator could give back."""
    _backend(device.type).empty_cache()
    free, _total = memory_info(device)
    return free


def memory_info(device: torch.device) -> tuple[int, int]:
    """Memory of a GPU that is free for all, and all that it has.

    Some of Intel's drivers do not tell what is free; then all counts but what torch holds. Under
    Windows a driver may count as free what it would push others out of.
    """
    backend = _backend(device.type)
    try:
        free, total = backend.mem_get_info(device)
    except RuntimeError:
        if device.type != "xpu":
            raise
        total = backend.get_device_properties(device).total_memory
        free = max(0, total - backend.memory_reserved(device))
    used = _used_by_all(device, backend) if this_system().moves_vram else None
    if used is not None:
        free = min(free, max(0, total - used))
    # The graphics part of an AMD processor may have more of RAM free than it says it has in all.
    return min(int(free), int(total)), int(total)


def _used_by_all(device: torch.device, backend: Any) -> int | None:  # noqa: ANN401 - torch.cuda
    """Memory of an NVIDIA GPU that lies in it now; None where that is not told for certain."""
    if device.type != "cuda" or torch.version.hip:
        return None
    # Else NVML counts GPUs in another order than CUDA does, and torch does not see to that.
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return None
    try:
        return int(backend.device_memory_used(device))
    # NVML has errors of its own, and torch those of its binding.
    except Exception:
        log.debug("NVML does not tell what is in use", exc_info=True)
        return None


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; the CPU always has."""
    if device.type != "cpu":
        _backend(device.type).synchronize(device)


def release_cached_memory(device: torch.device) -> None:
    """Give memory that no tensor uses back to the driver."""
    if device.type != "cpu":
        _backend(device.type).empty_cache()


def release_host_cache(device: torch.device) -> None:
    """Give locked RAM that no tensor uses back: torch keeps it for the next who wants it.

    On Intel GPUs older versions of torch have no way to say so.
    """
    accelerator: Any = getattr(torch, "accelerator", None)
    if device.type == "cpu":
        return
    if hasattr(accelerator, "empty_host_cache"):
        accelerator.empty_host_cache()
        return
    # What torch itself called before it had a name for it; only builds for CUDA and ROCm have it.
    core: Any = getattr(torch, "_C", None)
    empty: Callable[[], None] | None = getattr(core, "_host_emptyCache", None)
    if device.type == "cuda" and empty is not None:
        empty()


def _backend(kind: str) -> Any:  # noqa: ANN401 - torch.cuda or torch.xpu, which look alike
    return torch.cuda if kind == "cuda" else torch.xpu
