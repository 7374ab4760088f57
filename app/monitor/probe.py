"""What can look at a GPU, and which GPUs there are to look at."""

import logging
from dataclasses import dataclass
from typing import Protocol

from app.core.device import DeviceSnapshot
from app.core.errors import SetupError
from app.monitor.amd import open_amd_probes
from app.monitor.intel import open_intel_probes
from app.monitor.nvml import open_nvml_probes

log = logging.getLogger(__name__)


class DeviceProbe(Protocol):
    """Looks at one GPU; used by one thread at a time."""

    @property
    def driver(self) -> str:
        """The driver it asks, and its version where that can be told."""
        ...

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now, with the memory of this process; None while the GPU does not answer."""
        ...

    def close(self) -> None:
        """Let go of the driver; the probe is not used any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What looking for GPUs found.

    Attributes:
        probes: One for each GPU with memory of its own; close them.
        problems: GPUs that are there but cannot be asked, each with the remedy.
    """

    probes: tuple[DeviceProbe, ...]
    problems: tuple[SetupError, ...]


def detect() -> Detection:
    """Look for GPUs; takes up to half a second where a driver has to wake up."""
    probes: list[DeviceProbe] = []
    problems: list[SetupError] = []
    for open_probes in (open_nvml_probes, open_amd_probes, open_intel_probes):
        try:
            probes += open_probes()
        except SetupError as error:
            problems.append(error)
    return Detection(probes=tuple(probes), problems=tuple(problems))


def find_probes() -> tuple[DeviceProbe, ...]:
    """Probes of all GPUs that can be asked, the rest noted in the log; close them."""
    found = detect()
    for problem in found.problems:
        log.warning("%s (%s)", problem.message, problem.details)
    return found.probes
