"""What a bug report needs, without what it must not hold: the user's name and prompts' folder."""

import getpass
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from app import __version__
from app.core.device import Sample
from app.core.events import EngineReady
from app.core.log import LogLine
from app.core.settings import Settings
from app.core.units import format_bytes

PACKAGES = (
    "PySide6-Essentials",
    "pyqtgraph",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
    "msgspec",
    "jinja2",
    "psutil",
    "nvidia-ml-py",
    "platformdirs",
)
"""What the app is built on, the most telling first."""
LOG_LINES = 60
_LICENCE_CHARACTERS = 120
_SHORT_NAME = 2
_DOS_NAME = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A library the app is built on, as its own metadata tells."""

    name: str
    version: str
    licence: str


def components(names: Iterable[str] = PACKAGES) -> tuple[Component, ...]:
    """Versions and licences of installed libraries; nothing of them is imported."""
    found: list[Component] = []
    for name in names:
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(Component(name=name, version="not installed", licence=""))
            continue
        found.append(
            Component(
                name=metadata["Name"], version=metadata["Version"], licence=_licence(metadata)
            )
        )
    return tuple(found)


def diagnostics(
    *,
    settings: Settings,
    sample: Sample | None,
    engine: EngineReady | None,
    lines: Iterable[LogLine],
    qt_platform: str,
) -> str:
    """A text for a bug report: versions, machine, settings, the end of the log."""
    parts = [
        f"Headroom {__version__}, Python {platform.python_version()} ({sys.platform})",
        f"System: {platform.platform()}, {platform.machine()}, Qt platform {qt_platform}",
        _memory_text(sample),
        _engine_text(engine),
        "Libraries: " + ", ".join(f"{one.name} {one.version}" for one in components()),
        "Settings: "
        + ", ".join(f"{one.name}={getattr(settings, one.name)!r}" for one in fields(settings)),
        "Log:",
        *(f"  {line.logger}: {line.message}" for line in tuple(lines)[-LOG_LINES:]),
    ]
    return anonymous("\n".join(parts) + "\n")


def anonymous(text: str) -> str:
    """A text without the user's home folder and names, whatever their case.

    Windows writes one path now with small letters and now with capitals.
    """
    home = Path.home()
    path = str(home)
    for form in (path, path.replace("\\", "/"), path.replace("\\", "\\\\")):
        if len(form) > 1:
            # Not a part of something longer: "/home/ann" in "/home/anna", "/root" in "/d/root".
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "~", text, flags=re.IGNORECASE)
    for name in dict.fromkeys([_user_name(), home.name]):
        # A name of one or two letters stands in too many words.
        if len(name) <= _SHORT_NAME:
            continue
        forms = [re.escape(name)]
        if len(name) > _DOS_NAME:
            # As old programs on Windows see it: C:\Users\JULIAN~1.
            forms.append(re.escape(name[: _DOS_NAME - 2]) + r"~\d")
        pattern = rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)"
        text = re.sub(pattern, "<user>", text, flags=re.IGNORECASE)
    return text


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _memory_text(sample: Sample | None) -> str:
    if sample is None:
        return "Memory: not measured yet"
    host = sample.host
    text = (
        f"Memory: RAM {format_bytes(host.total_bytes)}, "
        f"{format_bytes(host.available_bytes)} available"
    )
    device = sample.device
    if device is None:
        return f"{text}; no GPU seen"
    return (
        f"{text}; GPU {device.name}, {format_bytes(device.total_bytes)}, "
        f"{format_bytes(device.used_bytes)} used"
    )


def _engine_text(engine: EngineReady | None) -> str:
    if engine is None:
        return "Engine: not started"
    return (
        f"Engine: {engine.device} ({engine.device_name}), torch {engine.torch_version}, "
        f"diffusers {engine.diffusers_version}"
    )


def _licence(metadata: importlib.metadata.PackageMetadata) -> str:
    told = [metadata[key] for key in ("License-Expression", "License") if key in metadata]
    for text in told:
        # Some put the whole licence text there.
        if text and text.upper() != "UNKNOWN" and len(text) <= _LICENCE_CHARACTERS:
            return text
    names = (
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    )
    return ", ".join(names)
