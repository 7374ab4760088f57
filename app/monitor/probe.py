"""Which GPUs there are to look at."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core.errors import SetupError
from app.monitor.amd import open_amd_probes
from app.monitor.device_probe import DeviceProbe
from app.monitor.intel import open_intel_probes
from app.monitor.nvml import open_nvml_probes
from app.monitor.pdh import ProcessCounters, open_process_counters
from app.monitor.wddm import WddmProbe

log = logging.getLogger(__name__)

__all__ = ["Detection", "DeviceProbe", "detect", "find_probes", "with_shared_memory"]


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
    return Detection(probes=with_shared_memory(probes), problems=tuple(problems))


def with_shared_memory(
    probes: Sequence[DeviceProbe],
    open_counters: Callable[[], ProcessCounters | None] = open_process_counters,
) -> tuple[DeviceProbe, ...]:
    """The same GPUs, with what Windows tells of our share where this is Windows."""
    found: list[DeviceProbe] = []
    for probe in probes:
        counters = open_counters()
        if counters is None:
            found.append(probe)
        else:
            found.append(WddmProbe(probe, counters, only_gpu=len(probes) == 1))
    return tuple(found)


def find_probes() -> tuple[DeviceProbe, ...]:
    """Probes of all GPUs that can be asked, the rest noted in the log; close them."""
    found = detect()
    for problem in found.problems:
        log.warning("%s (%s)", problem.message, problem.details)
    return found.probes
