"""From the engine's `--device` argument to the device it works on, tried before anything is."""

import logging
import warnings
from pathlib import Path

import torch

from app.core.errors import SetupError
from app.engine.compute_device import ComputeDevice, CpuDevice, real_device
from app.engine.devices import device_name, pick_device
from app.engine.out_of_memory import is_out_of_memory
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import read_story

log = logging.getLogger(__name__)

SIMULATED_PREFIX = "sim:"
"""Before the path of a story; a testing tool, which commands and the window do not offer."""
SET_UP_AGAIN = "python -m installer setup"
_NO_KERNELS = ("no kernel image", "invalid device function", "unsupported gpu architecture")
"""What CUDA and ROCm say when a build of torch was not made for the GPU."""
_NO_DRIVER = "no nvidia driver"


def open_device(choice: str) -> ComputeDevice:
    """The device for "auto", "cpu", "cuda:0", "xpu:0", or "sim:<path of a story>".

    Raises:
        SetupError: There is no such device, or it does not compute.
    """
    if choice.startswith(SIMULATED_PREFIX):
        return SimulatedDevice(read_story(Path(choice.removeprefix(SIMULATED_PREFIX))))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        device = pick_device(choice)
    if device.type == "cpu":
        if choice == "auto":
            _tell_why([str(one.message) for one in told])
        return CpuDevice()
    try:
        opened = real_device(device)
        # What is wrong shows here, and not in the middle of the first picture.
        torch.ones(8, device=device).add_(1.0).sum().item()
    except RuntimeError as error:
        raise _does_not_compute(device, error) from error
    return opened


def _tell_why(told: list[str]) -> None:
    """Log why a torch that was built for GPUs finds none, where it says so."""
    if told and _NO_DRIVER not in told[0].lower():
        log.warning("torch %s uses no GPU: %s", torch.__version__, told[0])


def _does_not_compute(device: torch.device, error: RuntimeError) -> SetupError:
    name, text = _name_of(device), str(error).lower()
    if is_out_of_memory(error):
        message = (
            f"{name} has no memory left to begin with: close other programs that use it, "
            "then try again."
        )
    elif any(part in text for part in _NO_KERNELS):
        message = (
            f"The installed torch ({torch.__version__}) was not built for {name}: run "
            f"`{SET_UP_AGAIN}`, which picks a build for it, or choose the CPU in the settings."
        )
    else:
        message = (
            f"{name} does not answer: restart the computer; if that does not help, install its "
            "newest driver, or choose the CPU in the settings."
        )
    return SetupError(message, code="setup.device", details=str(error))


def _name_of(device: torch.device) -> str:
    try:
        return device_name(device)
    except RuntimeError:
        return f"The GPU {device}"
