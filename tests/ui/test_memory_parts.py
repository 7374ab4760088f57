"""What our engine's memory consists of, as the graph, the figures and the readout tell it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication, QWidget

from app.core.events import EngineState, EngineStateChanged, StepDone
from app.core.units import GIB
from app.ui.models.memory_frame import Lane, MemoryView
from app.ui.widgets.figure_table import ROW_PX
from app.ui.widgets.memory_words import memory_words
from tests.fakes.engine_memory import engine_memory
from tests.ui.memory_bench import NARROW, WIDE, Bench, image


def report(
    resident_gib: float, slots_gib: float, *, on_device: bool = True, reserved_gib: float = 5.0
) -> StepDone:
    reserved = round(reserved_gib * GIB) if on_device else None
    memory = engine_memory(
        reserved,
        host_bytes=GIB,
        resident_bytes=round(resident_gib * GIB),
        slots_bytes=round(slots_gib * GIB),
    )
    return StepDone(job_id="a", step=1, steps=8, seconds=1.0, memory=memory)


@pytest.fixture
def bench(qtbot) -> Bench:
    made = Bench(qtbot)
    made.show(WIDE)
    return made


def pixels(widget: QWidget) -> NDArray[np.int16]:
    found = image(widget)
    flat = np.frombuffer(found.constBits(), dtype=np.uint8)
    return flat.reshape(found.height(), found.bytesPerLine()).astype(np.int16)


def heights(bench: Bench, lane: Lane = Lane.DEVICE) -> list[float]:
    """GiB at which each part of ours ends now, from the top, and where the last begins."""
    curves = bench.picture(lane).curves
    scale = curves.projection
    found = [part.upper[-1] for part in curves.parts] + [curves.parts[-1].lower[-1]]
    return [(1 - y / scale.height_px) * scale.top_bytes / GIB for y in found]


def test_before_the_engine_tells_there_are_no_parts(bench: Bench):
    bench.feed(1)
    assert bench.picture(Lane.DEVICE).curves.parts == ()
    assert len(bench.panel.figure_table.rows()) == 6


def test_parts_stand_on_each_other_up_to_what_is_ours(bench: Bench):
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(1, ours_gib=5.0)
    assert heights(bench) == pytest.approx([5.0, 3.5, 3.0, 0.0])
    assert bench.picture(Lane.HOST).curves.parts == ()


def test_parts_never_exceed_what_the_driver_counts_by_now(bench: Bench):
    bench.model.on_event(report(6.0, 1.0, reserved_gib=2.0))
    bench.feed(1, ours_gib=5.0)
    assert heights(bench) == pytest.approx([5.0, 5.0, 5.0, 0.0])


def test_on_the_cpu_it_is_ram_that_is_told_apart(bench: Bench):
    bench.model.on_event(report(1.0, 0.25, on_device=False))
    bench.feed(1, gpu=False)
    assert heights(bench, Lane.HOST) == pytest.approx([1.5, 1.25, 1.0, 0.0])


def test_every_part_has_its_name_and_its_figures(bench: Bench):
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(2, ours_gib=5.0)
    rows = {name: now for name, now, *_ in bench.panel.figure_table.rows()[:6]}
    assert rows["Headroom"] == "5.00"
    assert rows["Resident weights"] == "3.00"
    assert rows["Slots"] == "0.50"
    assert rows["Working memory"] == "1.50"
    labels = [(label.value, label.text) for label in bench.picture(Lane.DEVICE).labels]
    assert ("3.00", "Resident") in labels
    assert ("0.50", "Slots") in labels
    words = memory_words(bench.model.figures())
    assert "3.0 GB are resident weights, 512 MB slots for streaming, and 1.5 GB working" in words


def test_the_table_makes_room_for_the_parts(bench: Bench):
    bench.feed(1)
    before = bench.panel.figure_table.sizeHint().height()
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(1, ours_gib=5.0)
    assert bench.panel.figure_table.sizeHint().height() == before + 3 * ROW_PX


def test_a_low_panel_leaves_the_parts_out_rather_than_become_higher(bench: Bench):
    bench.feed(1)
    lowest = bench.panel.minimumSizeHint().height()
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(1, ours_gib=5.0)
    assert bench.panel.minimumSizeHint().height() == lowest
    table = bench.panel.figure_table
    bench.show(QSize(340, 700))
    assert table.shows_parts
    whole_px = table.height()
    bench.show(QSize(340, lowest + 20))
    assert not table.shows_parts
    # What the parts took is the graph's, and no row is cut off.
    assert table.height() == whole_px - 3 * ROW_PX == table.minimumSizeHint().height()
    bench.show(QSize(340, 700))
    assert table.shows_parts


def test_the_readout_names_them_at_their_moment(bench: Bench):
    bench.feed(3, ours_gib=2.0)
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(3, ours_gib=5.0)
    bench.graph.set_hover(1.0)
    assert "GPU memory: Slots 512 MB" in bench.graph.readout.text
    assert "GPU memory: Working memory 1.5 GB" in bench.graph.readout.text
    bench.graph.set_hover(1 - 5 / 60)
    assert "Headroom 2.0 GB" in bench.graph.readout.text
    assert "Slots" not in bench.graph.readout.text


def test_a_dead_engines_parts_are_told_no_more(bench: Bench):
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(1, ours_gib=5.0)
    bench.model.on_event(EngineStateChanged(state=EngineState.STOPPED, pid=7))
    bench.feed(1, ours_gib=0.0)
    parts = bench.picture(Lane.DEVICE).curves.parts
    assert all(part.upper[-1] == part.lower[-1] for part in parts)
    figures = bench.model.figures().lanes[0].parts
    assert figures is not None
    assert figures.slots.now is None


def test_a_long_run_keeps_parts_within_ours(bench: Bench):
    bench.panel.set_view(MemoryView.RUN)
    bench.run(seconds=2)
    bench.model.on_event(report(3.0, 0.5))
    bench.feed(1, ours_gib=5.0)
    for part in bench.picture(Lane.DEVICE).curves.parts:
        assert np.all(part.upper <= part.lower)


def test_parts_look_different_without_colour(bench: Bench):
    """In greys too: plain, crossed and dense."""
    bench.model.on_event(report(4.0, 4.0, reserved_gib=11.0))
    bench.feed(62, ours_gib=11.0)
    QApplication.processEvents()
    canvas = bench.canvas(Lane.DEVICE)
    grey = image(canvas).convertToFormat(image(canvas).Format.Format_Grayscale8)
    scale = bench.picture(Lane.DEVICE).curves.projection

    def greys(gib: float) -> set[int]:
        y = round(scale.y_px(gib * GIB))
        return {
            grey.pixelColor(x, row).red() for x in range(300, 340) for row in range(y - 4, y + 4)
        }

    resident, slots, working = greys(2.0), greys(6.0), greys(9.5)
    assert max(resident) - min(resident) <= 2
    assert max(slots) - min(slots) > 20
    assert max(working) - min(working) <= 2
    assert abs(max(resident) - max(working)) > 20


@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_moved_pixels_are_those_of_a_whole_painting(bench: Bench, size):
    bench.show(size)
    bench.model.on_event(report(3.0, 1.0))
    bench.feed(30, ours_gib=5.0)
    canvas = bench.canvas(Lane.DEVICE)
    image(canvas)
    bench.model.on_event(report(2.0, 1.5))
    for _ in range(11):
        bench.feed(0.1, ours_gib=5.0)
        image(canvas)
    moved = pixels(canvas)
    canvas.layer.forget()
    # Where a part changes at once, the smoothed line may differ by a few of 255.
    assert np.abs(pixels(canvas) - moved).max() <= 4
