"""The memory panel and its graph: real widgets, fake hardware, a fake clock."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from app.core.events import PhaseStarted
from app.core.jobs import Phase
from app.core.units import GIB
from app.ui import theme
from app.ui.models.memory_frame import Lane, MemoryView
from app.ui.panels.memory_panel import MemoryPanel
from app.ui.widgets.device_state import DeviceState
from tests.fakes.hardware import device, host, sample
from tests.ui.memory_bench import NARROW, WIDE, Bench, image


@pytest.fixture
def bench(qtbot) -> Bench:
    return Bench(qtbot)


# The GPU's name and state.


def _state(bench: Bench) -> DeviceState:
    found = bench.panel.findChild(DeviceState)
    assert found is not None
    return found


def _feed_state(bench: Bench, **told: float) -> None:
    bench.clock.advance(1.0)
    card = replace(device(), **told)
    bench.model.on_sample(sample(bench.clock.now_s, gpu=card))
    QApplication.processEvents()


def test_what_the_driver_tells_of_the_gpu_stands_beside_its_name(bench: Bench):
    bench.show()
    _feed_state(bench, temperature_c=61.6, utilization_percent=98.0, power_w=180.2)
    state = _state(bench)
    assert state.isVisible()
    assert state.text() == "62 °C  ·  98 %  ·  180 W"
    assert "62 °C, 98 %, 180 W" in state.accessibleName()
    width_px = state.width()
    _feed_state(bench, temperature_c=9.0, utilization_percent=1.0, power_w=9.0)
    assert (state.text(), state.width()) == ("9 °C  ·  1 %  ·  9 W", width_px)
    _feed_state(bench, temperature_c=50.0)
    assert state.text() == "50 °C"


def test_nothing_stands_there_where_the_driver_tells_nothing_or_there_is_no_room(bench: Bench):
    bench.show()
    _feed_state(bench)
    assert not _state(bench).isVisible()
    _feed_state(bench, temperature_c=61.0)
    assert _state(bench).isVisible()
    bench.panel.resize(NARROW)
    QApplication.processEvents()
    assert not _state(bench).isVisible()
    name = bench.panel.findChild(QLabel, "memory_device")
    assert name is not None
    assert name.toolTip() == "Fake GPU\n61 °C"
    bench.panel.resize(WIDE)
    bench.feed(1, gpu=False)
    assert not _state(bench).isVisible()


# What the graph shows.


def test_before_the_first_sample_it_says_that_it_waits(bench: Bench):
    bench.show()
    assert "Waiting" in bench.graph.empty_text


def test_the_run_view_says_that_there_was_no_run(bench: Bench):
    bench.show()
    bench.feed(1)
    assert bench.graph.empty_text == ""
    bench.click("memory_run")
    assert "No run yet" in bench.graph.empty_text


def test_with_a_gpu_there_are_two_lanes_and_without_one_only_ram(bench: Bench):
    bench.show()
    bench.feed(1, gpu=False)
    assert list(bench.graph.pictures) == [Lane.HOST]
    bench.feed(1, gpu=True)
    assert list(bench.graph.pictures) == [Lane.DEVICE, Lane.HOST]
    bench.feed(1, gpu=False)
    assert list(bench.graph.pictures) == [Lane.HOST]


def test_the_curves_end_at_now_at_the_height_of_their_values(bench: Bench):
    bench.show()
    bench.feed(70, ours_gib=6.0)
    picture = bench.picture(Lane.DEVICE)
    scale = picture.curves.projection
    assert picture.curves.xs[-1] == pytest.approx(picture.plot_width_px, abs=1.5)
    assert picture.curves.xs[0] <= 1.5
    assert picture.curves.ours[-1] == pytest.approx(scale.y_px(6 * GIB))
    assert picture.curves.used[-1] < picture.curves.ours[-1]
    assert picture.limit_y_px == pytest.approx(scale.y_px(12 * GIB))
    assert 0 < scale.y_px(12 * GIB) < 40


def test_times_of_both_lanes_stand_below_each_other(bench: Bench):
    bench.show()
    bench.feed(20)
    widths = {bench.picture(lane).plot_width_px for lane in Lane}
    lefts = {bench.canvas(lane).x() for lane in Lane}
    assert len(widths) == len(lefts) == 1


def test_names_and_values_stand_at_the_curves_where_there_is_room(bench: Bench):
    bench.show()
    bench.feed(5, ours_gib=6.0)
    labels = [(label.value, label.text) for label in bench.picture(Lane.DEVICE).labels]
    assert labels[0] == ("", "12.0 GB total")
    assert labels[2] == ("6.00", "Headroom")
    assert labels[1][1] == "Others"
    bench.panel.resize(NARROW)
    bench.feed(1)
    assert bench.picture(Lane.DEVICE).labels == ()


def test_phases_are_marked_with_their_names_and_the_peak_with_its_value(bench: Bench):
    bench.show()
    bench.feed(5)
    bench.run()
    bench.feed(2)
    picture = bench.picture(Lane.DEVICE)
    assert [name for _, name in picture.marks] == ["Load", "Denoise", "Done"]
    xs = [x for x, _ in picture.marks]
    assert xs == sorted(xs)
    assert picture.peak is not None
    assert picture.peak_text == "Peak 8.0 GB"
    assert picture.peak[1] == pytest.approx(picture.curves.projection.y_px(8 * GIB))


def test_a_peak_that_has_left_the_picture_is_not_drawn(bench: Bench):
    bench.show()
    bench.run()
    bench.feed(70)
    assert bench.picture(Lane.DEVICE).peak is None


def test_the_run_view_shows_the_run_from_its_beginning(bench: Bench):
    bench.show()
    bench.feed(3)
    bench.run(seconds=19)
    bench.feed(3)
    bench.click("memory_run")
    assert bench.graph.view is MemoryView.RUN
    curves = bench.picture(Lane.DEVICE).curves
    assert len(curves.xs) == 190
    assert curves.projection.span_s == 20
    bench.click("memory_recent")
    assert bench.graph.view is MemoryView.RECENT


def test_a_hidden_graph_draws_nothing_and_catches_up_when_shown(bench: Bench):
    bench.show()
    bench.feed(2)
    painted = bench.picture(Lane.DEVICE)
    bench.panel.hide()
    bench.feed(5)
    assert bench.picture(Lane.DEVICE) is painted
    bench.show()
    assert bench.picture(Lane.DEVICE) is not painted


def test_a_narrow_graph_is_not_drawn_more_often_than_its_curves_move(bench: Bench):
    bench.show(NARROW)
    bench.feed(2)
    pictures: list[object] = []
    for _ in range(20):
        bench.feed(0.1)
        pictures.append(bench.picture(Lane.DEVICE))
    assert 5 <= len(set(map(id, pictures))) <= 12


# Pixels.


@pytest.mark.parametrize("view", list(MemoryView))
@pytest.mark.parametrize("gpu", [True, False])
def test_moved_pixels_are_those_of_a_whole_painting(bench: Bench, view: MemoryView, gpu: bool):
    bench.show(NARROW if gpu else WIDE)
    bench.feed(30, gpu=gpu)
    bench.model.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    bench.feed(10.3, gpu=gpu)
    bench.panel.set_view(view)
    canvas = bench.canvas(Lane.HOST)
    image(canvas)
    whole = canvas.layer.painted_whole
    for _ in range(11):
        bench.feed(0.1, gpu=gpu)
        image(canvas)
    bench.feed(0.1, gpu=gpu)
    moved = image(canvas)
    assert canvas.layer.painted_whole == whole
    canvas.layer.forget()
    assert image(canvas) == moved
    assert canvas.layer.painted_whole == whole + 1


def test_a_run_made_coarser_is_painted_anew(bench: Bench):
    bench.show()
    bench.panel.set_view(MemoryView.RUN)
    bench.model.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    bench.feed(119)
    canvas = bench.canvas(Lane.HOST)
    image(canvas)
    whole = canvas.layer.painted_whole
    bench.feed(0.8)
    image(canvas)
    assert canvas.layer.painted_whole == whole
    bench.feed(0.5)
    image(canvas)
    assert canvas.layer.painted_whole == whole + 1


def test_areas_have_the_colours_of_the_theme_and_follow_it(bench: Bench, qapp):
    try:
        for name in ("light", "dark"):
            theme.apply(qapp, name)
            bench.show()
            bench.feed(62, ours_gib=6.0)
            canvas = bench.canvas(Lane.DEVICE)
            scheme = theme.colours()
            pixels = image(canvas)
            inside = QColor(pixels.pixel(200, canvas.height() - 10))
            expected = theme.mixed(scheme.graph_ours, scheme.surface, 64 / 255)
            for channel in (QColor.red, QColor.green, QColor.blue):
                assert abs(channel(inside) - channel(expected)) <= 2
            above = QColor(pixels.pixel(200, 2))
            assert above == QColor(scheme.surface)
    finally:
        theme.apply(qapp, "system")


# The pointer and the keyboard.


def move_to(bench: Bench, share: float) -> None:
    canvas = bench.canvas(Lane.DEVICE)
    x = canvas.x() + share * bench.picture(Lane.DEVICE).plot_width_px
    viewport = canvas.parentWidget()
    assert viewport is not None
    bench.qtbot.mouseMove(viewport, QPoint(round(x), canvas.y() + 20))
    QApplication.processEvents()


def test_the_pointer_shows_time_phase_and_values_of_its_moment(bench: Bench):
    bench.show()
    bench.feed(60, ours_gib=2.0)
    bench.model.on_event(PhaseStarted(job_id="a", phase=Phase.DENOISE))
    bench.feed(30, ours_gib=6.0)
    move_to(bench, 0.75)
    readout = bench.graph.readout
    assert readout.isVisible()
    title, *rows = readout.text.splitlines()
    assert title.endswith("s ago · Denoise")
    assert float(title.split()[0]) == pytest.approx(15.0, abs=0.3)
    assert "GPU memory: Headroom 6.0 GB" in rows
    assert "RAM: Headroom 1.5 GB" in rows
    move_to(bench, 0.25)
    assert "GPU memory: Headroom 2.0 GB" in readout.text
    assert "Denoise" not in readout.text


def test_the_readout_stays_inside_the_graph(bench: Bench):
    for size in (NARROW, WIDE):
        bench.show(size)
        bench.feed(62)
        for share in (0.02, 0.5, 0.98):
            move_to(bench, share)
            assert bench.graph.rect().contains(bench.graph.readout.geometry())


def test_the_readout_goes_when_the_pointer_leaves_the_plot(bench: Bench):
    bench.show()
    bench.feed(62)
    move_to(bench, 0.5)
    assert bench.graph.readout.isVisible()
    move_to(bench, -0.05)
    assert not bench.graph.readout.isVisible()


def test_arrow_keys_move_the_crosshair_and_escape_takes_it_away(bench: Bench):
    bench.show()
    bench.feed(62, ours_gib=2.0)
    bench.feed(2, ours_gib=6.0)
    bench.graph.setFocus()
    bench.qtbot.keyClick(bench.graph, Qt.Key.Key_End)
    assert "Headroom 6.0 GB" in bench.graph.readout.text
    bench.qtbot.keyClick(bench.graph, Qt.Key.Key_Home)
    assert "Headroom 2.0 GB" in bench.graph.readout.text
    bench.qtbot.keyClick(bench.graph, Qt.Key.Key_Right)
    assert bench.picture(Lane.DEVICE).hover_x_px == pytest.approx(
        bench.picture(Lane.DEVICE).plot_width_px / 60
    )
    bench.qtbot.keyClick(bench.graph, Qt.Key.Key_Escape)
    assert not bench.graph.readout.isVisible()


def test_tab_puts_the_crosshair_at_now_and_it_goes_with_the_focus(bench: Bench):
    bench.show()
    bench.feed(62, ours_gib=6.0)
    with bench.qtbot.waitActive(bench.panel):
        bench.panel.activateWindow()
    bench.button("memory_recent").setFocus()
    bench.graph.setFocus(Qt.FocusReason.TabFocusReason)
    assert "Headroom 6.0 GB" in bench.graph.readout.text
    assert bench.graph.readout.isVisible()
    bench.button("memory_run").setFocus(Qt.FocusReason.TabFocusReason)
    assert not bench.graph.readout.isVisible()


# The panel.


def test_figures_show_now_peak_and_average_of_each_series(bench: Bench):
    bench.show()
    bench.feed(10, ours_gib=6.0)
    rows = bench.panel.figure_table.rows()
    assert [row[0] for row in rows] == ["Headroom", "Other programs", "In use"] * 2
    assert rows[0] == ("Headroom", "6.00", "6.00", "6.00")
    assert rows[3] == ("Headroom", "1.50", "1.50", "1.50")
    assert bench.panel.figure_table.span_text() == "since the start"


def test_figures_are_about_the_run_while_it_goes_on_and_after_it(bench: Bench):
    bench.show()
    bench.feed(3, ours_gib=11.0)
    bench.model.on_event(PhaseStarted(job_id="a", phase=Phase.LOAD))
    assert bench.panel.figure_table.span_text() == "this run"
    bench.run()
    bench.feed(1, ours_gib=2.0)
    name, now, peak, _ = bench.panel.figure_table.rows()[0]
    assert (name, now, peak) == ("Headroom", "2.00", "8.00")
    assert bench.panel.figure_table.span_text() == "last run"


def test_reset_begins_the_peak_anew(bench: Bench):
    bench.show()
    bench.feed(2, ours_gib=11.0)
    bench.click("memory_reset")
    bench.feed(2, ours_gib=3.0)
    assert bench.panel.figure_table.rows()[0][2] == "3.00"
    assert bench.panel.figure_table.span_text() == "since reset"


def test_unknown_figures_are_a_dash(bench: Bench):
    bench.show()
    bench.model.on_sample(sample(bench.clock.now_s, computer=host(engine_gib=None)))
    assert bench.panel.figure_table.rows()[0] == ("Headroom", "–", "–", "–")


def test_the_device_is_named(bench: Bench):
    bench.show()
    bench.feed(1, gpu=True)
    label = bench.panel.findChild(QWidget, "memory_device")
    assert label is not None
    assert label.toolTip() == "Fake GPU"
    bench.feed(1, gpu=False)
    assert label.toolTip() == "No GPU"


def test_figures_stand_beside_a_wide_graph_and_below_a_narrow_one(bench: Bench):
    bench.show(WIDE)
    bench.feed(1)
    table = bench.panel.figure_table
    assert table.x() > bench.graph.geometry().right()
    bench.panel.resize(NARROW)
    QApplication.processEvents()
    assert table.y() > bench.graph.geometry().bottom()
    assert bench.graph.height() >= 150


def test_showing_and_hiding_is_told_for_the_monitors_rhythm(bench: Bench):
    told: list[bool] = []
    bench.panel.watched_changed.connect(told.append)
    bench.show()
    bench.panel.hide()
    assert told == [True, False]


def test_the_graph_in_words_is_there_for_screen_readers_and_changes_slowly(bench: Bench):
    bench.show()
    bench.feed(6, ours_gib=6.0)
    words = bench.graph.accessibleDescription()
    assert "GPU memory: " in words
    assert "of 12.0 GB in use, 6.0 GB of it by Headroom" in words
    bench.feed(2, ours_gib=9.0)
    assert bench.graph.accessibleDescription() == words
    bench.feed(5, ours_gib=9.0)
    assert "9.0 GB of it by Headroom" in bench.graph.accessibleDescription()


def test_every_control_has_a_name(bench: Bench):
    for name in ("memory_recent", "memory_run", "memory_reset", "memory_save"):
        button = bench.button(name)
        assert button.toolTip()
        assert button.accessibleName() or button.text()


def test_the_recording_is_saved_where_the_user_says(bench: Bench, tmp_path: Path, monkeypatch):
    path = tmp_path / "mine.csv"
    monkeypatch.setattr(MemoryPanel, "ask_file", classmethod(lambda *_: path))
    bench.show()
    bench.feed(2)
    with bench.qtbot.waitSignal(bench.panel.said) as said:
        bench.click("memory_save")
    assert said.args == ["Recording saved as mine.csv."]
    assert len(path.read_text("utf-8").splitlines()) == 21


def test_a_recording_that_is_not_wanted_after_all_is_not_saved(bench: Bench, monkeypatch):
    monkeypatch.setattr(MemoryPanel, "ask_file", classmethod(lambda *_: None))
    bench.show()
    bench.feed(1)
    with bench.qtbot.assertNotEmitted(bench.panel.said):
        bench.click("memory_save")


def test_a_recording_that_cannot_be_saved_is_told(bench: Bench, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(MemoryPanel, "ask_file", classmethod(lambda *_: tmp_path))
    bench.show()
    bench.feed(1)
    with bench.qtbot.waitSignal(bench.panel.failed) as failed:
        bench.click("memory_save")
    assert "cannot be saved" in failed.args[0]
