"""Reading the small text files Linux describes its devices with; what is missing is None."""

import re
from pathlib import Path

DRM_ROOT = Path("/sys/class/drm")
_CARD_DIGITS_AFTER = "card"
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")


def read_text(path: Path) -> str | None:
    """The file's text without surrounding space; None when it cannot be read or is empty."""
    try:
        return path.read_text("utf-8", errors="replace").strip() or None
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The file's number, decimal or with 0x before it; None when it has none."""
    text = read_text(path)
    if text is None:
        return None
    try:
        return int(text, 0)
    except ValueError:
        return None


def cards(root: Path, vendor_id: int) -> tuple[Path, ...]:
    """Folders of the graphics cards of one vendor, such as /sys/class/drm/card0, in order."""
    found: list[tuple[int, Path]] = []
    for path in root.glob(f"{_CARD_DIGITS_AFTER}*"):
        number = path.name.removeprefix(_CARD_DIGITS_AFTER)
        # Connectors are here too: card0-DP-1.
        if number.isdecimal() and read_int(path / "device" / "vendor") == vendor_id:
            found.append((int(number), path))
    return tuple(path for _, path in sorted(found))


def card_number(card: Path) -> int:
    """The number in the folder's name."""
    return int(card.name.removeprefix(_CARD_DIGITS_AFTER))


def pci_address(card: Path) -> str:
    """Where a card sits, such as "0000:03:00.0"; "" where Linux does not tell."""
    # The name of the folder that the link leads to.
    name = (card / "device").resolve().name
    return name if _PCI_ADDRESS.fullmatch(name) else ""


def hwmon(card: Path, name: str) -> int | None:
    """A sensor of a card, such as "temp1_input", from the first place that has it."""
    for folder in sorted((card / "device" / "hwmon").glob("hwmon*")):
        value = read_int(folder / name)
        if value is not None:
            return value
    return None
