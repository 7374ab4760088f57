"""Longest gap of the window's event loop while pictures are made; writes bench/results/ui_gap.json.

    python bench/ui_gap.py [--runs N] [--size PX] [--model FOLDER]

The real window with real threads and a real engine process. A timer of 1 ms notes when the event
loop comes round; what is longer than that, the window could not react. The same is noted while
nothing runs, which tells how much of it is the machine's own doing.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEventLoop, QObject, Qt, QTimer, Slot  # noqa: E402
from PySide6.QtGui import QGuiApplication  # noqa: E402
from PySide6.QtWidgets import QApplication  # noqa: E402

from app.core.jobs import OutputTarget  # noqa: E402
from app.core.log import set_up_logging  # noqa: E402
from app.core.paths import app_paths, resource  # noqa: E402
from app.core.request import GenerationRequest  # noqa: E402
from app.main import Application  # noqa: E402
from app.ui.models.engine_model import EngineModel  # noqa: E402
from app.ui.models.results_model import ResultsModel  # noqa: E402
from bench.report import percentile, table, write_result  # noqa: E402

TARGET_MS = 50.0
IDLE_S = 10.0
SETTLE_S = 0.5
TIMEOUT_S = 300.0
MAKE_TINY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.tiny_models import make_tiny_model
make_tiny_model("klein", Path(sys.argv[2]))
"""


class Probe(QObject):
    """Notes the time between two turns of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._gaps_ms: list[float] = []
        self._last_s = 0.0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._on_turn)

    def start(self) -> None:
        """Forget what was noted and begin."""
        self._gaps_ms = []
        self._last_s = time.perf_counter()
        self._timer.start()

    def stop(self) -> list[float]:
        """Milliseconds between turns since `start`."""
        self._timer.stop()
        return self._gaps_ms

    @Slot()
    def _on_turn(self) -> None:
        now_s = time.perf_counter()
        self._gaps_ms.append((now_s - self._last_s) * 1000)
        self._last_s = now_s


def summary(gaps_ms: list[float]) -> dict[str, float]:
    """What is told of many gaps."""
    return {
        "turns": len(gaps_ms),
        "p50_ms": round(percentile(gaps_ms, 0.50), 3),
        "p99_ms": round(percentile(gaps_ms, 0.99), 3),
        "max_ms": round(max(gaps_ms), 3),
    }


def wait_s(seconds: float) -> None:
    """Let the window run on."""
    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


class Run(QObject):
    """One generation, from the click until its picture is shown."""

    def __init__(self, engine: EngineModel, results: ResultsModel) -> None:
        super().__init__()
        self._engine = engine
        self._loop = QEventLoop()
        self._is_finished = False
        self._is_shown = False
        self._problem = ""
        engine.job_finished.connect(self._on_finished)
        engine.job_failed.connect(self._on_failed)
        results.picture_loaded.connect(self._on_shown)

    def run(self, request: GenerationRequest, *, model: Path, folder: Path) -> None:
        """Make it; raises SystemExit when it cannot be made."""
        output = OutputTarget(folder=str(folder))
        self._engine.generate(request, model_folder=str(model), output=output, previews=True)
        QTimer.singleShot(round(TIMEOUT_S * 1000), self._loop.quit)
        self._loop.exec()
        if self._problem or not self._is_shown:
            raise SystemExit(f"no picture was made: {self._problem or 'it took too long'}")

    @Slot(object)
    def _on_finished(self, _event: object) -> None:
        self._is_finished = True
        self._end_when_done()

    @Slot(object)
    def _on_shown(self, _picture: object) -> None:
        self._is_shown = True
        self._end_when_done()

    @Slot(object)
    def _on_failed(self, event: Any) -> None:  # noqa: ANN401 - JobFailed
        self._problem = event.error.message
        self._loop.quit()

    def _end_when_done(self) -> None:
        if self._is_finished and self._is_shown:
            self._loop.quit()


def model_folder(given: str, scratch: Path) -> tuple[Path, str]:
    """The model to use and its name: the given one, the demo, or a random one in its layout."""
    if given:
        return Path(given), Path(given).name
    demo = resource("models/demo")
    if (demo / "model_index.json").exists():
        return demo, "demo"
    made = scratch / "tiny"
    subprocess.run([sys.executable, "-c", MAKE_TINY, str(ROOT), str(made)], check=True)
    return made, "tiny random klein"


def measure(runs: int, size_px: int, model: Path, scratch: Path) -> dict[str, Any]:
    """Gaps of the real window, idle and at work."""
    os.environ["HEADROOM_HOME"] = str(scratch / "home")
    qt = QApplication([sys.argv[0]])
    paths = app_paths()
    logs = set_up_logging(paths.log_file, console=sys.stderr)
    application = Application(qt, paths, logs)
    application.start()
    engine, results = application._engine, application._results
    probe = Probe()
    # The first run is not counted: it loads torch and the model, beside the window's own start.
    Run(engine, results).run(request_of(0, size_px), model=model, folder=paths.pictures)
    wait_s(SETTLE_S)
    probe.start()
    wait_s(IDLE_S)
    idle = probe.stop()
    gaps: list[float] = []
    longest: list[float] = []
    for number in range(1, runs + 1):
        probe.start()
        Run(engine, results).run(request_of(number, size_px), model=model, folder=paths.pictures)
        of_run = probe.stop()
        longest.append(max(of_run))
        gaps += of_run
        wait_s(0.2)
    figures = {
        "target_p99_ms": TARGET_MS,
        "platform": QGuiApplication.platformName(),
        "size_px": size_px,
        "steps": 8,
        "runs": runs,
        "generating": summary(gaps),
        "longest_gap_per_run": {
            "median_ms": round(statistics.median(longest), 3),
            "p99_ms": round(percentile(longest, 0.99), 3),
        },
        "idle": summary(idle),
        "turns_over_target": sum(gap > TARGET_MS for gap in gaps),
    }
    application.end()
    logs.close()
    return figures


def request_of(number: int, size_px: int) -> GenerationRequest:
    """Each run has another prompt, so that nothing comes from a cache."""
    return GenerationRequest(
        prompt="a big red circle at the top on a blue background" + "!" * number,
        width_px=size_px,
        height_px=size_px,
        seed=number,
    )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--model", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch_name:
        scratch = Path(scratch_name)
        model, name = model_folder(arguments.model, scratch)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        figures = measure(arguments.runs, arguments.size, model, scratch)
    figures = {"model": name, "load_average_before": load, **figures}
    rows = [
        [label, *(f"{figures[key][value]:.1f}" for value in ("p50_ms", "p99_ms", "max_ms"))]
        for label, key in (("generating", "generating"), ("idle", "idle"))
    ]
    print(table(["event loop gaps in ms", "p50", "p99", "max"], rows))
    longest = figures["longest_gap_per_run"]
    print(
        f"longest gap of a run: median {longest['median_ms']:.1f} ms, p99 {longest['p99_ms']:.1f}"
    )
    note = "The real window, threads and engine process; 1 ms timer in the GUI thread."
    print(write_result("ui_gap", figures, note=note).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
