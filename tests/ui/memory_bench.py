"""A shown memory panel on fake hardware and a fake clock, for tests of the graph."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QPushButton, QToolButton, QWidget

from app.core.events import JobFinished, PhaseStarted
from app.core.jobs import Phase
from app.core.units import GIB
from app.ui.models.memory_frame import Lane
from app.ui.models.monitor_model import MonitorModel
from app.ui.panels.memory_panel import MemoryPanel
from app.ui.widgets.lane_canvas import LaneCanvas
from tests.fakes.clock import FakeClock
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, host, sample

NARROW, WIDE = QSize(340, 460), QSize(1000, 300)


class Bench:
    """A shown panel on a clock, and shorthands to feed it."""

    def __init__(self, qtbot) -> None:
        self.clock = FakeClock()
        self.model = MonitorModel(clock=self.clock)
        self.panel = MemoryPanel(self.model, clock=self.clock)
        self.qtbot = qtbot
        qtbot.addWidget(self.panel)
        self.panel.resize(WIDE)

    @property
    def graph(self):
        return self.panel.graph

    def show(self, size: QSize = WIDE) -> None:
        self.panel.resize(size)
        with self.qtbot.waitExposed(self.panel):
            self.panel.show()
        QApplication.processEvents()

    def feed(self, seconds: float, *, ours_gib: float = 3.0, gpu: bool = True) -> None:
        for step in range(round(seconds * 10)):
            self.clock.advance(0.1)
            others_gib = 1 + step % 7 / 20
            card = device(used_gib=ours_gib + others_gib, engine_gib=ours_gib) if gpu else None
            computer = host(used_gib=6 + others_gib, engine_gib=1.5)
            self.model.on_sample(sample(self.clock.now_s, gpu=card, computer=computer))
        QApplication.processEvents()

    def run(self, *, seconds: float = 5.0) -> None:
        for phase in (Phase.LOAD, Phase.DENOISE):
            self.model.on_event(PhaseStarted(job_id="a", phase=phase))
            self.feed(seconds / 2, ours_gib=5.0 if phase is Phase.LOAD else 8.0)
        report = engine_memory(host_bytes=GIB)
        self.model.on_event(JobFinished(job_id="a", seconds=seconds, memory=report))

    def button(self, name: str) -> QPushButton | QToolButton:
        found = self.panel.findChild(QPushButton, name) or self.panel.findChild(QToolButton, name)
        assert found is not None
        return found

    def click(self, name: str) -> None:
        self.qtbot.mouseClick(self.button(name), Qt.MouseButton.LeftButton)

    def picture(self, lane: Lane):
        found = self.graph.pictures[lane]
        assert found is not None
        return found

    def canvas(self, lane: Lane) -> LaneCanvas:
        found = self.panel.findChild(LaneCanvas, f"memory_lane_{lane.value}")
        assert found is not None
        return found


def image(widget: QWidget) -> QImage:
    return widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
