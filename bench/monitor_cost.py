"""What the monitor and the memory graph cost: share of one core at 10 Hz; writes bench/results.

    python bench/monitor_cost.py [--seconds 20]

The real panel, fed by the real monitor thread, in a process of its own, with a full minute of
recording and a plan in sight. Its peer in the same run is the same process without them: an idle
event loop. Without a GPU, a stand-in with steady figures takes its place, so that both lanes are
painted; what the driver itself costs is then not in the figure, and the result says so.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from PySide6.QtCore import QTimer  # noqa: E402
from PySide6.QtWidgets import QApplication, QWidget  # noqa: E402

from app.core.device import DeviceSnapshot, HostSnapshot, Sample  # noqa: E402
from app.core.events import EngineReady, PhaseStarted, PlanMade  # noqa: E402
from app.core.jobs import Phase  # noqa: E402
from app.core.plan import GenerationPlan, PhasePlan  # noqa: E402
from app.core.units import GIB  # noqa: E402
from app.monitor.device_probe import DeviceProbe  # noqa: E402
from app.monitor.host import HostProbe  # noqa: E402
from app.monitor.probe import find_probes  # noqa: E402
from app.monitor.sampler import EngineProcess, Sampler  # noqa: E402
from app.ui import theme  # noqa: E402
from app.ui.models.forecast_model import ForecastModel  # noqa: E402
from app.ui.models.memory_frame import Lane, MemoryView  # noqa: E402
from app.ui.models.monitor_model import MonitorModel  # noqa: E402
from app.ui.monitor_thread import MonitorThread  # noqa: E402
from app.ui.panels.memory_panel import MemoryPanel  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from tests.fakes import plans  # noqa: E402

TARGET_PERCENT = 3.0
WARM_UP_S = 2.0
SIZES = {"docked 340x420": (340, 420), "wide 1200x300": (1200, 300)}


class StandInProbe(DeviceProbe):
    """A GPU whose use wavers a little, as a real one's does."""

    @property
    def driver(self) -> str:
        return "stand-in"

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now; its engine is whoever asks."""
        del engine_pid
        return gpu()

    def close(self) -> None:
        """Nothing is held."""


def gpu() -> DeviceSnapshot:
    """A GPU in the middle of a run."""
    engine_bytes = round((8 + random.random() * 0.4) * GIB)
    return DeviceSnapshot(
        index=0,
        name="stand-in",
        total_bytes=12 * GIB,
        used_bytes=engine_bytes + GIB,
        engine_bytes=engine_bytes,
    )


def fill(model: MonitorModel, *, with_gpu: bool) -> None:
    """A minute of samples before now, so that the whole width is drawn from the beginning."""
    now_s = time.monotonic()
    host = HostProbe().snapshot(os.getpid())
    for step in range(600):
        used_bytes = round((6 + random.random() * 0.2) * GIB)
        model.on_sample(
            Sample(
                time_s=now_s - 60 + step / 10,
                host=HostSnapshot(
                    total_bytes=host.total_bytes,
                    available_bytes=max(0, host.total_bytes - used_bytes),
                    engine_rss_bytes=GIB,
                ),
                device=gpu() if with_gpu else None,
            )
        )
        if step == 300:
            model.on_event(PhaseStarted(job_id="bench", phase=Phase.DENOISE))


def bench_plan() -> GenerationPlan:
    """A plan that takes longer than a measurement, so that its band is drawn all the time."""
    phases = tuple(
        PhasePlan(
            phase=phase,
            weights_bytes=size,
            working_bytes=GIB // 2,
            uncertainty_bytes=GIB // 4,
            seconds=seconds,
        )
        for phase, size, seconds in (
            (Phase.LOAD, 4 * GIB, 10.0),
            (Phase.ENCODE, 8 * GIB, 5.0),
            (Phase.DENOISE, 8 * GIB, 600.0),
            (Phase.DECODE, 2 * GIB, 20.0),
        )
    )
    return plans.plan(components=(), phases=phases, budget_bytes=11 * GIB)


def measure(application: QApplication, seconds: float) -> float:
    """Processor time of this process over a while, in percent of one core."""
    measured: list[float] = []

    def begin() -> None:
        began_s, cpu_s = time.perf_counter(), time.process_time()

        def end() -> None:
            share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
            measured.append(100 * share)
            application.quit()

        QTimer.singleShot(round(seconds * 1000), end)

    QTimer.singleShot(round(WARM_UP_S * 1000), begin)
    application.exec()
    return measured[0]


def idle(application: QApplication, seconds: float) -> float:
    """The peer: a window of the same size, and nothing else."""
    window = QWidget()
    window.resize(1200, 300)
    window.show()
    share = measure(application, seconds)
    window.close()
    return share


def watched(
    application: QApplication,
    seconds: float,
    *,
    size: tuple[int, int],
    view: MemoryView,
    probes: Callable[[], tuple[DeviceProbe, ...]],
    with_gpu: bool,
) -> float:
    """The panel at this size, fed ten times a second."""

    def open_sampler(engine: Callable[[], EngineProcess]) -> Sampler:
        return Sampler(probes=probes(), host=HostProbe(), engine=engine)

    model = MonitorModel()
    fill(model, with_gpu=with_gpu)
    forecast = ForecastModel()
    forecast.set_planned(bench_plan(), lane=Lane.DEVICE if with_gpu else Lane.HOST)
    forecast.on_event(
        EngineReady(
            pid=os.getpid(),
            device="cuda:0" if with_gpu else "cpu",
            device_name="stand-in",
            torch_version="",
            diffusers_version="",
        )
    )
    if view is MemoryView.RUN:
        forecast.on_event(PlanMade(job_id="bench", plan=bench_plan()))
        forecast.on_event(PhaseStarted(job_id="bench", phase=Phase.DENOISE))
    panel = MemoryPanel(model, forecast=forecast)
    panel.resize(*size)
    panel.set_view(view)
    panel.show()
    thread = MonitorThread(open_sampler)
    thread.sampled.connect(model.on_sample)
    model.engine_changed.connect(thread.set_engine)
    thread.set_engine(EngineProcess(pid=os.getpid()))
    thread.start()
    share = measure(application, seconds)
    thread.stop()
    panel.close()
    panel.deleteLater()
    return share


def main() -> int:
    """Measure, print and write; 1 when the target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--theme", choices=("light", "dark"), default="dark")
    arguments = parser.parse_args()
    application = QApplication([])
    theme.apply(application, arguments.theme)
    real = find_probes()
    driver = real[0].driver if real else None
    for probe in real:
        probe.close()
    figures: dict[str, float] = {"idle event loop": idle(application, arguments.seconds)}
    for with_gpu in (False, True):
        for name, size in SIZES.items():
            for view in (MemoryView.RECENT, MemoryView.RUN):
                lanes = "GPU and RAM" if with_gpu else "RAM only"
                row = f"{name}, {lanes}, {'60 s' if view is MemoryView.RECENT else 'run'}"
                figures[row] = watched(
                    application,
                    arguments.seconds,
                    size=size,
                    view=view,
                    probes=_probes(driver, with_gpu=with_gpu),
                    with_gpu=with_gpu,
                )
    worst = max(figures.values())
    print(table(("", "% of one core"), [(name, f"{value:.2f}") for name, value in figures.items()]))
    print(f"worst {worst:.2f} %, target {TARGET_PERCENT:.0f} %")
    path = write_result(
        "monitor_cost",
        {
            "percent_of_one_core": figures,
            "worst_percent": worst,
            "target_percent": TARGET_PERCENT,
            "seconds_each": arguments.seconds,
            "gpu_driver": driver,
        },
        note="10 Hz, offscreen; calls of the GPU's driver are in it only if gpu_driver names one.",
    )
    print(path.relative_to(ROOT))
    return 0 if worst < TARGET_PERCENT else 1


def _probes(driver: str | None, *, with_gpu: bool) -> Callable[[], tuple[DeviceProbe, ...]]:
    if not with_gpu:
        return tuple
    if driver is None:
        return lambda: (StandInProbe(),)
    return find_probes


if __name__ == "__main__":
    sys.exit(main())
