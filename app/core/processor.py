"""The computer's own processor, by name."""

import platform
from functools import cache
from pathlib import Path


@cache
def processor_name() -> str:
    """Its name for people; engine and window call the device "CPU" by it."""
    # platform.processor() is empty or only the architecture on most Linux systems.
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def cpu_device_name() -> str:
    """The processor as a device."""
    return f"CPU ({processor_name()})"
