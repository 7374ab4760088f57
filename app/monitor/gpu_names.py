"""Names of GPUs that their Linux driver knows by number only, from the tables of the system.

Consumer cards have no `product_name` in /sys. AMD's table is the one that ROCm reads, so the name
is the same as torch's; Intel's cards stand in that of all PCI devices.
"""

import re
from pathlib import Path

from app.monitor.sysfs import read_int

AMD_TABLES = (
    Path("/usr/share/libdrm/amdgpu.ids"),
    Path("/opt/amdgpu/share/libdrm/amdgpu.ids"),
    Path("/opt/rocm/share/libdrm/amdgpu.ids"),
)
PCI_TABLES = (Path("/usr/share/hwdata/pci.ids"), Path("/usr/share/misc/pci.ids"))
_INTEL = "8086"


def amd_name(device: Path, tables: tuple[Path, ...] = AMD_TABLES) -> str | None:
    """Such as "AMD Radeon RX 7900 XTX"; None where no table has it.

    Args:
        device: The card's folder of PCI's, such as /sys/class/drm/card0/device.
        tables: The first that has it counts.
    """
    number, revision = read_int(device / "device"), read_int(device / "revision")
    if number is None or revision is None:
        return None
    line = rf"^{number:04X},\s*{revision:02X},\s*(\S.*?)\s*$"
    return _first(line, tables)


def intel_name(device: Path, tables: tuple[Path, ...] = PCI_TABLES) -> str | None:
    """Such as "Intel Arc B580"; None where no table has it.

    Args:
        device: As for AMD.
        tables: As for AMD.
    """
    number = read_int(device / "device")
    if number is None:
        return None
    # Lines of other makers come between, but not of the same number behind Intel's.
    line = rf"^{_INTEL}\s(?:.*\n(?:[\t#].*\n)*?)\t{number:04x}\s+(\S.*?)\s*$"
    found = _first(line, tables)
    if found is None:
        return None
    # The chip's name, and in brackets the card's.
    card = re.search(r"\[([^\]]+)\]", found)
    return f"Intel {card[1] if card else found}".replace("Intel Intel", "Intel")


def _first(line: str, tables: tuple[Path, ...]) -> str | None:
    pattern = re.compile(line, re.MULTILINE | re.IGNORECASE)
    for table in tables:
        try:
            found = pattern.search(table.read_text("utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            return found[1]
    return None
