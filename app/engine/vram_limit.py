"""Having memory of a GPU run out where the driver would rather move it to RAM.

Under Windows, and in WSL, a driver grants more than the GPU has: what does not fit lies in RAM, and
everything becomes many times slower without a word. Told where the end is, torch's allocator says
that memory ran out, which a run recovers from. Not tried on a real GPU.
"""

import logging
from typing import Any

import torch

from app.core.units import format_bytes
from app.engine.compute_device import ComputeDevice
from app.engine.devices import memory_info
from app.engine.host_memory import System, this_system

log = logging.getLogger(__name__)


def keep_in_vram(device: ComputeDevice, *, system: System | None = None) -> None:
    """Let torch's allocator take no more from the driver than there is at this moment.

    Args:
        device: Of which.
        system: The one that it is used under; None is this.
    """
    place = device.torch_device
    if place.type == "cpu" or device.simulated or not (system or this_system()).moves_vram:
        return
    # They look alike, and neither has full types; before torch 2.10 Intel's has no limit.
    backend: Any = torch.cuda if place.type == "cuda" else torch.xpu
    limit: Any = getattr(backend, "set_per_process_memory_fraction", None)
    if limit is None:
        return
    most_bytes = device.reserved_bytes() + memory_info(place)[0]
    log.debug("the allocator may hold %s of %s", format_bytes(most_bytes), device.name)
    limit(min(1.0, most_bytes / device.total_bytes), place)
