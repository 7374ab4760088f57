"""The plan on the memory graph: real widgets, fake hardware, a fake clock."""

import pytest
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.core.events import EngineReady, PhaseStarted, PlanMade
from app.core.jobs import Phase
from app.core.plan import Verdict
from app.ui import theme
from app.ui.models.forecast_model import ForecastModel
from app.ui.models.memory_frame import Lane, MemoryView
from app.ui.models.monitor_model import MonitorModel
from app.ui.panels.memory_panel import MemoryPanel
from app.ui.widgets.lane_canvas import LaneCanvas, beside
from tests.fakes.clock import FakeClock
from tests.fakes.hardware import device, host, sample
from tests.fakes.plans import PHASES, gib, plan
from tests.ui.find import find

NARROW, WIDE = QSize(340, 460), QSize(1100, 320)


class Bench:
    """A shown panel with a forecast, on a clock."""

    def __init__(self, qtbot: QtBot) -> None:
        self.clock = FakeClock()
        self.model = MonitorModel(clock=self.clock)
        self.forecast = ForecastModel(clock=self.clock)
        self.panel = MemoryPanel(self.model, forecast=self.forecast, clock=self.clock)
        qtbot.addWidget(self.panel)
        self.panel.resize(WIDE)
        with qtbot.waitExposed(self.panel):
            self.panel.show()

    def feed(self, seconds: float, *, ours_gib: float = 1.0, gpu: bool = True) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            card = device(used_gib=ours_gib + 1, engine_gib=ours_gib) if gpu else None
            computer = host(used_gib=6.0, engine_gib=1.5)
            self.model.on_sample(sample(self.clock.now_s, gpu=card, computer=computer))
        QApplication.processEvents()

    def tell(self, *events: object) -> None:
        for event in events:
            self.forecast.on_event(event)
            self.model.on_event(event)
        QApplication.processEvents()

    def run(self) -> None:
        self.tell(
            EngineReady(
                pid=1, device="cuda:0", device_name="x", torch_version="2", diffusers_version="1"
            ),
            PlanMade(job_id="a", plan=plan()),
            PhaseStarted(job_id="a", phase=Phase.LOAD),
        )

    def plan(self, made=None, lane: Lane = Lane.DEVICE) -> None:
        self.forecast.set_planned(made or plan(), lane=lane)
        QApplication.processEvents()

    def picture(self, lane: Lane = Lane.DEVICE):
        found = self.panel.graph.pictures[lane]
        assert found is not None
        return found

    def canvas(self, lane: Lane = Lane.DEVICE) -> LaneCanvas:
        return find(self.panel, LaneCanvas, f"memory_lane_{lane.value}")


@pytest.fixture
def bench(qtbot: QtBot) -> Bench:
    return Bench(qtbot)


def test_before_a_run_the_plan_stands_right_of_now(bench: Bench):
    bench.feed(70)
    alone = bench.picture().plot_width_px
    assert bench.picture().ahead is None
    bench.plan()
    picture = bench.picture()
    ahead = picture.ahead
    assert ahead is not None
    assert picture.plot_width_px + ahead.width_px == pytest.approx(alone, abs=1)
    assert ahead.left_px == picture.plot_width_px
    assert [box.phase for box in ahead.boxes] == [one.phase for one in PHASES]
    assert ahead.boxes[0].left_px == ahead.left_px
    assert ahead.boxes[-1].right_px == pytest.approx(ahead.left_px + ahead.width_px, abs=1)


def test_boxes_are_as_high_as_they_need_and_as_wide_as_they_take(bench: Bench):
    bench.feed(5)
    bench.plan()
    scale = bench.picture().curves.projection
    ahead = bench.picture().ahead
    assert ahead is not None
    denoise = ahead.boxes[2]
    assert denoise.y_px == pytest.approx(scale.y_px(gib(8.3)), abs=0.1)
    assert denoise.high_y_px == pytest.approx(scale.y_px(gib(8.6)), abs=0.1)
    assert denoise.low_y_px == pytest.approx(scale.y_px(gib(8.0)), abs=0.1)
    widths = [box.right_px - box.left_px for box in ahead.boxes]
    assert widths[2] > 3 * widths[0]
    # A moment is still to be seen.
    assert min(widths) >= 4


def test_a_text_makes_room_for_another():
    limit = QRectF(4, 50, 80, 12)
    far = QRectF(200, 50, 60, 12)
    assert beside(far, limit, right_px=300) == far
    assert beside(limit, QRectF(), right_px=300) == limit
    near = QRectF(40, 55, 60, 12)
    moved = beside(near, limit, right_px=300)
    assert not moved.intersects(limit)
    assert moved.top() == near.top()
    below = beside(near, limit, right_px=120)
    assert not below.intersects(limit)
    assert below.left() == near.left()


def test_the_limit_stands_at_the_budget_with_its_name(bench: Bench):
    bench.feed(5)
    bench.plan()
    picture = bench.picture()
    assert picture.budget_y_px == pytest.approx(picture.curves.projection.y_px(gib(10.5)))
    assert ("10.50", "Limit") in [(label.value, label.text) for label in picture.labels]


def test_on_a_narrow_graph_the_limit_names_itself(bench: Bench):
    bench.panel.resize(NARROW)
    bench.feed(5)
    assert bench.picture().budget_text == ""
    bench.plan()
    assert not bench.picture().labels
    assert bench.picture().budget_text == "Limit 10.5 GB"
    bench.panel.resize(WIDE)
    bench.feed(5)
    assert bench.picture().labels
    assert bench.picture().budget_text == ""


def test_only_the_lane_the_plan_is_about_has_boxes_and_times_stay_aligned(bench: Bench):
    bench.feed(5)
    bench.plan()
    assert bench.picture(Lane.HOST).ahead is None
    assert bench.picture(Lane.HOST).plot_width_px == bench.picture().plot_width_px
    bench.feed(5, gpu=False)
    bench.plan(plan(budget_bytes=gib(20)), lane=Lane.HOST)
    assert bench.picture(Lane.HOST).ahead is not None


def test_ram_shows_as_much_as_the_plan_needs(bench: Bench):
    bench.feed(5, gpu=False)
    bench.plan(plan(budget_bytes=gib(20)), lane=Lane.HOST)
    picture = bench.picture(Lane.HOST)
    ahead = picture.ahead
    assert ahead is not None
    assert min(box.high_y_px for box in ahead.boxes) >= 0


def test_what_goes_over_the_limit_is_in_another_colour(bench: Bench, qapp):
    theme.apply(qapp, "dark")
    bench.feed(5)
    bench.plan(plan(Verdict.DOES_NOT_FIT, budget_bytes=gib(8.0)))
    ahead = bench.picture().ahead
    assert ahead is not None
    assert [box.phase for box in ahead.boxes if box.over] == [Phase.DENOISE]
    image = bench.canvas().grab().toImage()
    box = ahead.boxes[2]
    inside = image.pixelColor(round((box.left_px + box.right_px) / 2), round(box.y_px) + 30)
    other = image.pixelColor(round(ahead.boxes[0].left_px) + 6, round(ahead.boxes[0].y_px) + 20)
    danger = QColor(theme.colours().danger)
    assert inside.red() > inside.blue()
    assert other.blue() > other.red()
    assert danger.red() > danger.blue()


def test_what_is_ahead_is_painted_only_when_it_changes(bench: Bench):
    bench.feed(5)
    bench.plan()
    bench.canvas().grab()
    painted = bench.canvas().ahead_layer.painted
    for _ in range(20):
        bench.feed(0.1)
        bench.canvas().grab()
    assert bench.canvas().ahead_layer.painted == painted
    bench.plan(plan(width_px=512, budget_bytes=gib(9), phases=PHASES[:4]))
    bench.canvas().grab()
    assert bench.canvas().ahead_layer.painted == painted + 1


def test_in_a_run_the_curves_run_over_their_forecast_and_its_pixels_are_kept(bench: Bench):
    bench.feed(5)
    bench.run()
    bench.panel.set_view(MemoryView.RUN)
    bench.feed(1.0, ours_gib=4.0)
    picture = bench.picture()
    assert picture.ahead is None
    assert [box.phase for box in picture.curves.forecast] == [one.phase for one in PHASES]
    # The axis goes on to where the plan ends.
    assert picture.curves.projection.span_s >= 34.5
    bench.canvas().grab()
    painted = bench.canvas().layer.painted_whole
    for _ in range(20):
        bench.feed(0.1, ours_gib=4.0)
        bench.canvas().grab()
    assert bench.canvas().layer.painted_whole == painted
    bench.tell(PhaseStarted(job_id="a", phase=Phase.ENCODE))
    bench.feed(0.2, ours_gib=7.0)
    bench.canvas().grab()
    assert bench.canvas().layer.painted_whole == painted + 1


@pytest.mark.parametrize("view", [MemoryView.RECENT, MemoryView.RUN])
def test_moved_pixels_with_a_forecast_are_those_of_a_whole_painting(bench: Bench, view):
    bench.feed(5)
    bench.run()
    bench.panel.set_view(view)
    bench.feed(1.0, ours_gib=4.0)
    bench.canvas().grab()
    for _ in range(7):
        bench.feed(0.3, ours_gib=4.0)
        bench.canvas().grab()
    moved = bench.canvas().grab().toImage()
    bench.canvas().layer.forget()
    assert bench.canvas().grab().toImage() == moved


def test_the_pointer_and_the_keys_reach_what_is_ahead(bench: Bench, qtbot: QtBot):
    bench.feed(70)
    bench.plan()
    graph = bench.panel.graph
    ahead = bench.picture().ahead
    assert ahead is not None
    box = ahead.boxes[2]
    graph.set_hover((box.left_px + 5) / bench.picture().plot_width_px)
    assert graph.readout.isVisible()
    assert graph.readout.text.startswith("Denoise · planned, 24 s")
    assert "8.3 GB ± 307 MB" in graph.readout.text
    graph.setFocus()
    qtbot.keyClick(graph, Qt.Key.Key_End)
    assert bench.picture().hover_x_px == pytest.approx(ahead.left_px + ahead.width_px)
    qtbot.keyClick(graph, Qt.Key.Key_Escape)
    assert not graph.readout.isVisible()


def test_narrow_panels_have_the_plan_too(bench: Bench):
    bench.panel.resize(NARROW)
    bench.feed(5)
    bench.plan()
    ahead = bench.picture().ahead
    assert ahead is not None
    assert 60 <= ahead.width_px <= 0.5 * bench.canvas().width()
