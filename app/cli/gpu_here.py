"""The GPU that a run on this machine would use."""

import re
from dataclasses import dataclass

from app.core.device import DeviceSnapshot
from app.core.errors import SetupError
from app.engine.machine import installed_torch
from app.monitor.probe import find_probes

_CPU = "cpu"
_CPU_BUILD = "+cpu"
"""Ends the version of a torch that knows no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHere:
    """A GPU and its driver, as `DeviceProbe.driver` has it."""

    snapshot: DeviceSnapshot
    driver: str


def gpu_here(device: str, *, pid: int | None = None) -> GpuHere | None:
    """The GPU for "auto", "cuda:1", ...; None where runs go to the processor.

    Args:
        device: As in the settings.
        pid: Of an engine process, whose memory is told with it.

    Raises:
        SetupError: There is no such GPU.
    """
    if device == _CPU or (device == "auto" and installed_torch().endswith(_CPU_BUILD)):
        return None
    match = re.search(r":(\d+)$", device)
    index = int(match.group(1)) if match else 0
    probes = find_probes()
    try:
        # The engine has torch count GPUs in the order of their driver.
        wanted = probes if device == "auto" else probes[index : index + 1]
        found = [
            GpuHere(snapshot=snapshot, driver=probe.driver)
            for probe in wanted
            if (snapshot := probe.snapshot(pid)) is not None
        ]
        if found:
            # The one that the engine takes by itself.
            return max(found, key=lambda gpu: gpu.snapshot.total_bytes)
    finally:
        for probe in probes:
            probe.close()
    if device == "auto":
        return None
    raise SetupError(
        f"There is no GPU “{device}” on this machine, or it does not answer: "
        "choose another with --device (“plan” can also describe one with --vram-gib).",
        code="setup.device",
    )
