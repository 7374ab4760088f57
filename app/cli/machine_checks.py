"""Doctor: Python, the app, GPUs and memory."""

import platform
import sys
from pathlib import Path

import psutil

from app import __version__
from app.cli.check import Check, note, ok, problem
from app.core.units import GIB, format_bytes
from app.monitor.probe import detect

OLDEST_PYTHON = (3, 11)
FIRST_PYTHON_TOO_NEW = (3, 14)
SMALL_RAM_BYTES = 8 * GIB
"""The demo runs in less; real models are offloaded to RAM."""


def check_python(version: tuple[int, int] | None = None) -> list[Check]:
    """Python's version; by default that of this process."""
    found = f"{platform.python_version()} at {sys.executable}"
    if OLDEST_PYTHON <= (version or sys.version_info[:2]) < FIRST_PYTHON_TOO_NEW:
        return [ok("python", found)]
    return [
        problem("python", found, "Install Python 3.11, 3.12 or 3.13 and set up Headroom with it.")
    ]


def check_app() -> list[Check]:
    """The app's version and place."""
    place = Path(__file__).resolve().parents[2]
    return [ok("app", f"Headroom {__version__} in {place}, {platform.platform()}")]


def check_gpus() -> list[Check]:
    """GPUs and their driver, as the monitor sees them."""
    detection = detect()
    checks: list[Check] = []
    for probe in detection.probes:
        snapshot = probe.snapshot(None)
        if snapshot is None:
            remedy = "Restart the computer; if it stays, install the newest driver."
            checks.append(problem("gpu", f"A GPU ({probe.driver}) does not answer.", remedy))
        else:
            free_bytes = max(0, snapshot.total_bytes - snapshot.used_bytes)
            found = (
                f"{snapshot.name}, {format_bytes(snapshot.total_bytes)}, "
                f"{format_bytes(free_bytes)} free, {probe.driver}"
            )
            checks.append(ok(f"gpu.{snapshot.index}", found))
        probe.close()
    remedy = "The demo runs on the CPU until then."
    checks += [problem("gpu", error.message, remedy) for error in detection.problems]
    if not checks:
        remedy = "The demo runs on the CPU; real models need a GPU to be quick."
        checks.append(note("gpu", "No GPU with memory of its own was found.", remedy))
    return checks


def check_memory() -> list[Check]:
    """RAM and swap."""
    memory = psutil.virtual_memory()
    swap = psutil.swap_memory()
    found = (
        f"{format_bytes(memory.total)} of RAM, {format_bytes(memory.available)} available; "
        f"{format_bytes(swap.total)} of swap, {format_bytes(swap.used)} used"
    )
    if memory.total < SMALL_RAM_BYTES:
        remedy = "Only the demo and small models will fit; more RAM helps where VRAM is short."
        return [note("memory", found, remedy)]
    return [ok("memory", found)]
