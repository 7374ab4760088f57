"""From the engine's `--device` argument to the device it works on, tried before anything is."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from app.core.errors import SetupError
from app.engine.compute_device import ComputeDevice, CpuDevice, real_device
from app.engine.devices import device_name, pick_device
from app.engine.out_of_memory import is_out_of_memory
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import read_story

SIMULATED_PREFIX = "sim:"
"""Before the path of a story; a testing tool, which commands and the window do not offer."""
SET_UP_AGAIN = "python -m installer setup"
_NO_KERNELS = ("no kernel image", "invalid device function", "unsupported gpu architecture")
"""What CUDA and ROCm say when a build of torch was not made for the GPU."""
_NO_DRIVER = "no nvidia driver"


def _unheard(sentence: str) -> None:
    del sentence


def open_device(choice: str, tell: Callable[[str], None] = _unheard) -> ComputeDevice:
    """The device for "auto", "cpu", "cuda:0", "xpu:0", or "sim:<path of a story>".

    Args:
        choice: As above.
        tell: Takes a sentence when the CPU is taken though torch was built for a GPU, with what
            torch says of that.

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
            _tell_why([str(one.message) for one in told], tell)
        return CpuDevice()
    try:
        opened = real_device(device)
        # What is wrong shows here, and not in the middle of the first picture.
        torch.ones(8, device=device).add_(1.0).sum().item()
    except RuntimeError as error:
        raise _does_not_compute(device, error) from error
    return opened


def _tell_why(told: list[str], tell: Callable[[str], None]) -> None:
    # A build for GPUs on a computer without one is no surprise.
    if told and _NO_DRIVER not in told[0].lower():
        first = re.split(r"\.\s+(?=[A-Z])", told[0].removeprefix("CUDA initialization: "))[0]
        tell(
            f"The CPU computes, because torch {torch.__version__} cannot use a GPU: "
            f"{first.rstrip('.')}. Restart the computer; if that does not help, install the GPU's "
            f"newest driver, or run `{SET_UP_AGAIN}`."
        )


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
