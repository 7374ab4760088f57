"""Time from the start of the process to the visible window; writes bench/results/window_start.json.

    python bench/window_start.py [--runs N]

Each run starts `python -m app` in a process of its own and notes when the window is first exposed,
turn about with a process that shows nothing but an empty QWidget: the ratio of the two says what
is ours, whatever else the machine is doing. One run before warms the file cache and is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.report import table, write_result  # noqa: E402

TARGET_S = 1.0
TIMEOUT_S = 120.0

# Both tell the monotonic time, the same in all processes of a machine, of the first exposure.
_WATCH = """
import sys, time
from PySide6.QtCore import QEvent, QObject

class Watch(QObject):
    def __init__(self, window, then):
        super().__init__()
        self.then = then
        self.handle = window.windowHandle()
        self.handle.installEventFilter(self)

    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Expose and self.handle.isExposed():
            self.handle.removeEventFilter(self)
            print(time.monotonic(), time.process_time(), flush=True)
            self.then()
        return False
"""
_BARE = (
    _WATCH
    + """
from PySide6.QtWidgets import QApplication, QWidget
qt = QApplication(["bare"])
window = QWidget()
window.resize(1280, 800)
window.show()
watch = Watch(window, qt.quit)
qt.exec()
"""
)
_OURS = (
    """
import app.__main__
import app.main as composition
"""
    + _WATCH
    + """
start = composition.Application.start
def watched_start(self):
    start(self)
    self.watch = Watch(self.window, self.ask_to_end)
composition.Application.start = watched_start
sys.argv = ["headroom"]
sys.exit(app.__main__.main())
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: until the window was there, and how long the processor worked for that."""

    wall_s: float
    cpu_s: float


def start_once(code: str, environment: dict[str, str]) -> Start:
    """Start a process and wait until it tells that its window is there."""
    began_s = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    shown_s, cpu_s = (float(word) for word in result.stdout.split()[:2])
    return Start(wall_s=shown_s - began_s, cpu_s=cpu_s)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    ours: list[Start] = []
    bare: list[Start] = []
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HEADROOM_HOME": home}
        if sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        for number in range(arguments.runs + 1):
            starts = start_once(_BARE, environment), start_once(_OURS, environment)
            if number:
                bare.append(starts[0])
                ours.append(starts[1])
    ours_s, bare_s = [one.wall_s for one in ours], [one.wall_s for one in bare]
    median_s, bare_median_s = statistics.median(ours_s), statistics.median(bare_s)
    figures = {
        "window_visible_s": round(median_s, 3),
        "fastest_s": round(min(ours_s), 3),
        "slowest_s": round(max(ours_s), 3),
        "bare_qwidget_s": round(bare_median_s, 3),
        "ratio_to_bare": round(
            statistics.median(one / other for one, other in zip(ours_s, bare_s, strict=True)), 2
        ),
        "cpu_s": round(statistics.median(one.cpu_s for one in ours), 3),
        "bare_cpu_s": round(statistics.median(one.cpu_s for one in bare), 3),
        "runs": arguments.runs,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "niceness": os.nice(0) if hasattr(os, "nice") else None,
        "platform": environment.get("QT_QPA_PLATFORM", "native"),
        "target_s": TARGET_S,
    }
    print(
        table(
            ["", "median", "fastest", "slowest"],
            [
                ["Headroom", *(f"{value:.2f} s" for value in (median_s, min(ours_s), max(ours_s)))],
                [
                    "bare QWidget",
                    *(f"{v:.2f} s" for v in (bare_median_s, min(bare_s), max(bare_s))),
                ],
            ],
        )
    )
    path = write_result(
        "window_start",
        figures,
        note="Seconds from starting the process to the first exposed window, warm file cache.",
    )
    print(f"target {TARGET_S:.1f} s; written to {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
