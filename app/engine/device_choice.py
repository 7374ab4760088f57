"""From the engine's `--device` argument to the device it works on."""

from pathlib import Path

from app.engine.compute_device import ComputeDevice, real_device
from app.engine.devices import pick_device
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import read_story

SIMULATED_PREFIX = "sim:"
"""Before the path of a story; a testing tool, which commands and the window do not offer."""


def open_device(choice: str) -> ComputeDevice:
    """The device for "auto", "cpu", "cuda:0", "xpu:0", or "sim:<path of a story>".

    Raises:
        SetupError: There is no such device.
    """
    if choice.startswith(SIMULATED_PREFIX):
        return SimulatedDevice(read_story(Path(choice.removeprefix(SIMULATED_PREFIX))))
    return real_device(pick_device(choice))
