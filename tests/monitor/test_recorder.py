"""Readings, buffers, figures, the recorder and its table."""

import csv
import io
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.events import EngineMemory
from app.core.units import GIB
from app.monitor.buffers import DecimatingBuffer, RollingBuffer
from app.monitor.figures import MAX_WEIGHT_S, RunningFigures
from app.monitor.reading import Series, read
from app.monitor.recorder import (
    RECENT_ROWS,
    RUN_ROWS,
    FiguresSpan,
    Mark,
    RunRecorder,
)
from app.monitor.recording_csv import recording_csv
from tests.fakes.engine_memory import engine_memory
from tests.fakes.hardware import device, host, sample


def report(*, reserved_gib: float | None = None) -> EngineMemory:
    reserved = None if reserved_gib is None else round(reserved_gib * GIB)
    return engine_memory(reserved, host_bytes=GIB)


def add(recorder: RunRecorder, time_s: float, *, ours_gib: float, used_gib: float = 4.0) -> None:
    gpu = device(used_gib=used_gib, engine_gib=ours_gib)
    recorder.add(read(sample(time_s, gpu=gpu, computer=host(engine_gib=1.0)), None))


# Readings.


def test_others_have_what_is_used_and_not_ours():
    reading = read(sample(1.0, gpu=device(used_gib=5, engine_gib=3)), None)
    assert reading.device is not None
    assert reading.device.ours_bytes == 3 * GIB
    assert reading.device.others_bytes == 2 * GIB
    assert reading.device.used_bytes == 5 * GIB


@pytest.mark.parametrize(
    ("driver_gib", "reported_gib", "ours_gib"),
    [(3.0, 2.0, 3.0), (2.0, 3.0, 3.0), (None, 2.0, 2.0), (3.0, None, 3.0), (None, None, None)],
)
def test_ours_is_the_larger_of_what_driver_and_engine_tell(
    driver_gib: float | None, reported_gib: float | None, ours_gib: float | None
):
    gpu = device(used_gib=5, engine_gib=driver_gib)
    reading = read(sample(1.0, gpu=gpu), report(reserved_gib=reported_gib))
    assert reading.device is not None
    expected = None if ours_gib is None else round(ours_gib * GIB)
    assert reading.device.ours_bytes == expected
    assert reading.device.used_bytes == 5 * GIB


def test_ours_is_never_squeezed_when_mapped_files_make_it_larger_than_what_is_used():
    reading = read(sample(1.0, computer=host(used_gib=2, engine_gib=3)), None)
    assert (reading.host.ours_bytes, reading.host.others_bytes) == (3 * GIB, 0)


def test_values_stand_in_their_columns_and_unknown_ones_are_not_numbers():
    values = read(sample(1.0, computer=host(used_gib=6, engine_gib=2)), None).values()
    assert len(values) == len(Series)
    assert math.isnan(values[Series.DEVICE_USED])
    assert values[Series.HOST_OURS] == 2 * GIB
    assert values[Series.HOST_OTHERS] == 4 * GIB
    assert values[Series.HOST_USED] == 6 * GIB


# Buffers.


def test_the_rolling_buffer_keeps_the_latest_rows_in_order():
    buffer = RollingBuffer(capacity=5, columns=2)
    for step in range(13):
        buffer.add(float(step), (step * 10.0, -step))
        rows = buffer.since(-1.0)
        expected = [float(one) for one in range(max(0, step - 4), step + 1)]
        assert list(rows.times_s) == expected
        assert list(rows.highs[0]) == [one * 10 for one in expected]
        assert list(rows.lows[1]) == [-one for one in expected]


def test_the_rolling_buffer_gives_the_row_before_the_asked_time_too():
    buffer = RollingBuffer(capacity=10, columns=1)
    for step in range(8):
        buffer.add(float(step), (0.0,))
    assert list(buffer.since(4.5).times_s) == [4.0, 5.0, 6.0, 7.0]
    assert list(buffer.since(5.0).times_s) == [4.0, 5.0, 6.0, 7.0]
    assert list(buffer.since(99.0).times_s) == [7.0]


@given(st.lists(st.floats(min_value=-1e12, max_value=1e12), min_size=1, max_size=400))
def test_the_decimating_buffer_never_loses_an_extreme_and_stays_bounded(values: list[float]):
    buffer = DecimatingBuffer(capacity=8, columns=1)
    for step, value in enumerate(values):
        buffer.add(float(step), (value,))
    rows = buffer.all()
    assert 1 <= len(rows) <= 8
    assert max(rows.highs[0]) == max(values)
    assert min(rows.lows[0]) == min(values)
    assert rows.times_s[0] == 0.0
    assert list(rows.times_s) == sorted(rows.times_s)


def test_the_decimating_buffer_keeps_at_least_half_its_rows():
    buffer = DecimatingBuffer(capacity=RUN_ROWS, columns=1)
    for step in range(30_000):
        buffer.add(step / 10, (0.0,))
    assert RUN_ROWS / 2 <= len(buffer.all()) <= RUN_ROWS


def test_the_decimating_buffer_is_exact_until_it_is_full():
    buffer = DecimatingBuffer(capacity=4, columns=1)
    for step in range(4):
        buffer.add(float(step), (float(step),))
    assert list(buffer.all().highs[0]) == [0.0, 1.0, 2.0, 3.0]
    first = buffer.generation
    buffer.add(4.0, (4.0,))
    assert list(buffer.all().times_s) == [0.0, 2.0, 4.0]
    assert list(buffer.all().lows[0]) == [0.0, 2.0, 4.0]
    assert list(buffer.all().highs[0]) == [1.0, 3.0, 4.0]
    assert buffer.generation != first


def test_unknown_values_do_not_swallow_known_ones_when_rows_are_joined():
    buffer = DecimatingBuffer(capacity=2, columns=1)
    for step, value in enumerate((math.nan, 5.0, 7.0, math.nan)):
        buffer.add(float(step), (value,))
    assert (list(buffer.all().lows[0]), list(buffer.all().highs[0])) == ([5.0, 7.0], [5.0, 7.0])


# Figures.


def test_the_average_is_over_time_whatever_the_rhythm():
    figures = RunningFigures()
    # Ten samples in a second, then one each second: 0 for 1 s, 4 for 3 s, joined by a slope.
    for step in range(11):
        figures.add(step / 10, 0.0)
    figures.add(1.0, 4.0)
    for second in (2.0, 3.0, 4.0):
        figures.add(second, 4.0)
    assert figures.figures().average == pytest.approx(3.0)


def test_figures_of_one_sample_are_that_sample_and_of_none_are_none():
    figures = RunningFigures()
    assert figures.figures().now is None
    assert figures.figures().average is None
    figures.add(3.0, 7.0)
    made = figures.figures()
    assert (made.now, made.peak, made.peak_at_s, made.average) == (7.0, 7.0, 3.0, 7.0)


def test_a_pause_counts_for_no_more_than_two_seconds():
    figures = RunningFigures()
    figures.add(0.0, 1.0)
    figures.add(MAX_WEIGHT_S, 1.0)
    figures.add(3600.0, 1.0)
    figures.add(3600.0, 5.0)
    figures.add(3600.0 + 2 * MAX_WEIGHT_S, 5.0)
    assert figures.figures().average == pytest.approx(
        (2 * MAX_WEIGHT_S + 5 * MAX_WEIGHT_S) / (3 * MAX_WEIGHT_S)
    )


def test_an_unknown_value_leaves_a_gap_and_no_zero():
    figures = RunningFigures()
    figures.add(0.0, 4.0)
    figures.add(1.0, math.nan)
    assert figures.figures().now is None
    figures.add(2.0, 4.0)
    assert figures.figures().average == 4.0


# The recorder.


def test_the_first_phase_of_a_job_begins_a_run_and_its_end_ends_it():
    recorder = RunRecorder()
    assert recorder.mark(1.0, Mark.LOAD, "a") is True
    assert recorder.mark(2.0, Mark.DENOISE, "a") is False
    assert recorder.running
    assert recorder.mark(3.0, Mark.FINISHED, "a") is True
    assert not recorder.running
    assert (recorder.run_job_id, recorder.run_began_s) == ("a", 1.0)
    assert [mark.mark for mark in recorder.marks(0.0)] == [Mark.LOAD, Mark.DENOISE, Mark.FINISHED]


def test_an_end_without_a_run_and_a_restart_without_a_run_are_no_marks():
    recorder = RunRecorder()
    assert recorder.mark(1.0, Mark.CANCELLED, "waiting") is False
    assert recorder.mark(1.0, Mark.RESTARTED, "waiting") is False
    assert recorder.marks(0.0) == ()
    assert recorder.run_began_s is None


def test_a_restarted_job_goes_on_in_the_same_run():
    recorder = RunRecorder()
    recorder.mark(1.0, Mark.LOAD, "a")
    assert recorder.mark(2.0, Mark.RESTARTED, "a") is False
    assert recorder.mark(3.0, Mark.LOAD, "a") is False
    assert recorder.run_began_s == 1.0


def test_the_run_has_only_what_came_while_it_went_on():
    recorder = RunRecorder()
    add(recorder, 0.5, ours_gib=1)
    recorder.mark(1.0, Mark.LOAD, "a")
    add(recorder, 1.5, ours_gib=2)
    add(recorder, 2.5, ours_gib=3)
    recorder.mark(3.0, Mark.FINISHED, "a")
    add(recorder, 3.5, ours_gib=4)
    assert list(recorder.run().times_s) == [1.5, 2.5]
    assert list(recorder.recent(3.5).times_s) == [0.5, 1.5, 2.5, 3.5]


def test_figures_begin_with_the_run_and_stand_still_after_it_except_now():
    recorder = RunRecorder()
    assert recorder.span is FiguresSpan.START
    add(recorder, 0.0, ours_gib=9)
    recorder.mark(1.0, Mark.LOAD, "a")
    assert recorder.span is FiguresSpan.RUN
    add(recorder, 1.0, ours_gib=2)
    add(recorder, 2.0, ours_gib=4)
    recorder.mark(2.5, Mark.FINISHED, "a")
    add(recorder, 3.0, ours_gib=8)
    figures = recorder.figures(Series.DEVICE_OURS)
    assert recorder.span is FiguresSpan.LAST_RUN
    assert figures.peak == 4 * GIB
    assert figures.peak_at_s == 2.0
    assert figures.average == 3 * GIB
    assert figures.now == 8 * GIB


def test_a_reset_begins_anew_from_now_on():
    recorder = RunRecorder()
    recorder.mark(0.0, Mark.LOAD, "a")
    add(recorder, 1.0, ours_gib=9)
    recorder.reset_figures()
    assert recorder.figures(Series.DEVICE_OURS).peak is None
    assert recorder.figures(Series.DEVICE_OURS).now == 9 * GIB
    add(recorder, 2.0, ours_gib=3)
    assert recorder.figures(Series.DEVICE_OURS).peak == 3 * GIB
    assert recorder.span is FiguresSpan.RESET


def test_what_the_engine_saw_between_samples_counts_during_a_run_only():
    recorder = RunRecorder()
    recorder.note_peak(0.5, Series.DEVICE_OURS, 11.0 * GIB)
    assert recorder.figures(Series.DEVICE_OURS).peak is None
    recorder.mark(1.0, Mark.DENOISE, "a")
    add(recorder, 1.0, ours_gib=3)
    recorder.note_peak(1.2, Series.DEVICE_OURS, 5.0 * GIB)
    recorder.note_peak(1.3, Series.DEVICE_OURS, 4.0 * GIB)
    figures = recorder.figures(Series.DEVICE_OURS)
    assert (figures.peak, figures.peak_at_s) == (5 * GIB, 1.2)


def test_a_long_run_stays_bounded_and_keeps_its_peak():
    recorder = RunRecorder()
    recorder.mark(0.0, Mark.DENOISE, "a")
    generator = random.Random(1)
    peak_at = 12_345
    reading = read(sample(0.0, gpu=device(engine_gib=8, used_gib=9)), None)
    spike = read(sample(peak_at / 10, gpu=device(engine_gib=11, used_gib=12)), None)
    for step in range(20_000):
        recorder.add(spike if step == peak_at else reading)
        if generator.random() < 0.05:
            recorder.mark(step / 10, Mark.DECODE, "a")
    rows = recorder.run()
    assert len(rows) <= RUN_ROWS
    assert max(rows.highs[Series.DEVICE_OURS]) == 11 * GIB
    assert len(recorder.recent(2_000.0)) <= RECENT_ROWS
    assert len(recorder.marks(-1.0)) <= 512


def test_the_last_minute_is_all_there_at_ten_samples_a_second():
    recorder = RunRecorder()
    for step in range(900):
        add(recorder, step / 10, ours_gib=1)
    times = recorder.recent(89.9).times_s
    assert times[0] <= 29.9
    assert len(times) >= 601


# The table.


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_has_time_phase_and_all_series_in_bytes():
    recorder = RunRecorder()
    recorder.mark(10.0, Mark.LOAD, "a")
    add(recorder, 10.1, ours_gib=1, used_gib=3)
    recorder.mark(10.15, Mark.DENOISE, "a")
    add(recorder, 10.2, ours_gib=2, used_gib=4)
    recorder.mark(10.25, Mark.FINISHED, "a")
    rows = parsed(recording_csv(recorder.run(), recorder.marks(0.0), began_s=10.0))
    assert [row["time_s"] for row in rows] == ["0.100", "0.200"]
    assert [row["phase"] for row in rows] == ["load", "denoise"]
    assert rows[1]["device_ours_min_bytes"] == rows[1]["device_ours_max_bytes"] == str(2 * GIB)
    assert rows[1]["device_others_max_bytes"] == str(2 * GIB)
    assert rows[1]["host_used_max_bytes"] == str(6 * GIB)
    assert len(rows[0]) == 2 + 2 * len(Series)


def test_cells_of_what_nobody_tells_are_empty_and_no_phase_follows_the_end():
    recorder = RunRecorder()
    recorder.mark(0.0, Mark.SAVE, "a")
    recorder.mark(0.5, Mark.FAILED, "a")
    recorder.add(read(sample(1.0), None))
    rows = parsed(recording_csv(recorder.recent(1.0), recorder.marks(0.0), began_s=0.0))
    assert rows[0]["device_used_max_bytes"] == ""
    assert rows[0]["host_ours_max_bytes"] == ""
    assert rows[0]["phase"] == ""
