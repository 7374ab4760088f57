"""Doctor: Python packages, what torch sees, and what the window needs.

Torch and Qt are asked in processes of their own: a broken one may end its process, and this one
must never load them.
"""

import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
from typing import Any

from app.cli.check import Check, note, ok, problem
from app.core.units import format_bytes

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
    "msgspec",
)
PATIENCE_S = 180.0
"""The first import of torch from a slow disk takes minutes."""
SET_UP_AGAIN = "Run “python -m installer run” in Headroom's folder, or install headroom again."
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
}
"""What Qt's xcb and Wayland platforms load on Linux, and Debian's names of the packages."""
_TORCH_PROGRAM = """
import json, os
# As the engine has them numbered.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
import torch
devices, idle = [], []
for kind in ("cuda", "xpu"):
    backend = getattr(torch, kind, None)
    if backend is not None and backend.is_available():
        for index in range(backend.device_count()):
            properties = backend.get_device_properties(index)
            told = [f"{kind}:{index}", properties.name, properties.total_memory]
            try:
                torch.ones(1, device=told[0]).add_(1).item()
            except RuntimeError:
                idle.append(told)
            else:
                devices.append(told)
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "hip": torch.version.hip,
    "xpu": getattr(torch.version, "xpu", None),
    "threads": torch.get_num_threads(),
    "devices": devices,
    "idle": idle,
}))
"""
_QT_PROGRAM = """
import PySide6.QtSvg, PySide6.QtWidgets, pyqtgraph
print("PySide6", PySide6.__version__ + ", pyqtgraph", pyqtgraph.__version__)
"""


def check_packages() -> list[Check]:
    """Packages that the engine needs."""
    versions: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return [problem("packages", f"Not installed: {', '.join(missing)}.", SET_UP_AGAIN)]
    return [ok("packages", ", ".join(versions))]


def check_torch(program: str = _TORCH_PROGRAM) -> list[Check]:
    """What torch is built for and which devices it sees."""
    output, failure = _ask(program)
    if failure:
        return [problem("torch", f"torch does not work: {failure}", SET_UP_AGAIN)]
    told: dict[str, Any] = json.loads(output)
    names = {"cuda": "CUDA", "hip": "ROCm", "xpu": "XPU"}
    build = next((f"{name} {told[key]}" for key, name in names.items() if told[key]), "CPU")
    devices, idle = _named(told["devices"]), _named(told["idle"])
    found = f"{told['version']} (built for {build}), {told['threads']} "
    found += "thread" if told["threads"] == 1 else "threads"
    if devices and not idle:
        return [ok("torch", f"{found}: {', '.join(devices)}")]
    if devices:
        beside = f"{found}: {', '.join(devices)}; it cannot compute on {', '.join(idle)}"
        return [note("torch", beside, "The device in the settings is to be one of the others.")]
    if idle:
        remedy = (
            "Run “python -m installer setup” in Headroom's folder, which picks a build for the "
            "GPU; if that does not help, install its newest driver."
        )
        return [problem("torch", f"{found}, but it cannot compute on {', '.join(idle)}.", remedy)]
    if build == "CPU":
        return [ok("torch", f"{found}: the CPU only")]
    return [
        problem(
            "torch",
            f"{found}, but it sees no GPU.",
            "Install the newest driver of your GPU and restart; if it stays, set up Headroom "
            "again, which picks the torch build for the driver.",
        )
    ]


def _named(devices: list[list[Any]]) -> list[str]:
    return [
        f"{device} {name} with {format_bytes(total_bytes)}" for device, name, total_bytes in devices
    ]


def check_qt() -> list[Check]:
    """Whether PySide6 is there and loads."""
    output, failure = _ask(_QT_PROGRAM)
    if failure:
        return [_window_trouble("qt", f"The window cannot open: {failure}", SET_UP_AGAIN)]
    return [ok("qt", output.strip())]


def check_qt_libraries() -> list[Check]:
    """On Linux, the system libraries that Qt loads."""
    if sys.platform != "linux":
        return []
    missing = [name for name in QT_LIBRARIES if not _loads(name)]
    if not missing:
        return [ok("qt.libraries", "all there")]
    packages = " ".join(QT_LIBRARIES[name] for name in missing)
    return [
        _window_trouble(
            "qt.libraries",
            f"Missing: {', '.join(missing)}.",
            f"On Debian or Ubuntu: sudo apt-get install {packages}; elsewhere, install the "
            "packages that hold these files.",
        )
    ]


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _window_trouble(name: str, found: str, remedy: str) -> Check:
    """A problem where there is a screen; else only the command line is used, which works."""
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return note(name, f"{found} There is no screen here; the command line works.", remedy)
    return problem(name, found, remedy)


def _ask(program: str) -> tuple[str, str]:
    """What a Python program printed, and "" or one line saying why it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "", f"it did not answer within {PATIENCE_S:.0f} s."
    except OSError as error:
        return "", f"Python cannot be started ({error.strerror or error})."
    if done.returncode == 0:
        return done.stdout, ""
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return "", last[0]
