"""A device that computes nothing any more: a wild kernel breaks it for its whole process.

Not tried on a real GPU.
"""

import logging

import torch

from app.engine.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

_SIDE = 64


class DeviceBrokenError(SystemExit):
    """The device fails whatever it is told: this process can only end, and a new one is started.

    No `Exception`, so that nothing on the way takes it for a fault of the job.
    """


def still_computes(device: torch.device) -> bool:
    """Whether a device does what every device can."""
    try:
        ones = torch.ones(_SIDE, _SIDE, device=device)
        return bool((ones @ ones).sum().item() == _SIDE**3)
    # CUDA says the error that broke it again, in one of several types.
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        # A library or a kernel without room for itself says nothing of the device; but out of
        # resources is what Level Zero says of one that is full and of one that is broken.
        if is_out_of_memory(error) and (device.type != "xpu" or _adds(device)):
            return True
        log.info("the device computes nothing any more", exc_info=True)
        return False


def _adds(device: torch.device) -> bool:
    """Whether a device does what needs no library."""
    try:
        ones = torch.ones(_SIDE, device=device)
        return bool((ones + ones).sum().item() == 2 * _SIDE)
    except RuntimeError as error:
        return isinstance(error, torch.OutOfMemoryError)
