"""What streaming achieves, in the progress for people and in the events for programs."""

import io
import json

import pytest

from app.cli.progress import TextReport
from app.cli.report import JsonReport
from app.core.events import Converting, JobFinished, Loading, StepDone
from app.core.policy import Precision
from app.core.run_report import RunReport
from app.core.streaming import Streaming
from app.core.units import GIB
from tests.fakes.engine_memory import engine_memory
from tests.fakes.reports import report, streamed_report

MEMORY = engine_memory(GIB, host_bytes=2, resident_bytes=700, slots_bytes=300)


def step(streaming: Streaming | None) -> StepDone:
    return StepDone(job_id="a", step=1, steps=4, seconds=0.5, memory=MEMORY, streaming=streaming)


STREAMING = Streaming(streamed_bytes=6 * GIB, copying_s=0.5, waited_s=0.005)


def test_people_are_told_the_rate_and_what_was_hidden():
    err = io.StringIO()
    TextReport(io.StringIO(), err).event(step(STREAMING))
    assert "2.0 it/s  12.0 GB/s streamed, 99 % hidden  ETA" in err.getvalue()


@pytest.mark.parametrize(
    "streaming", [None, Streaming(streamed_bytes=0, copying_s=0.0, waited_s=0.0)]
)
def test_people_are_told_nothing_where_nothing_streams(streaming: Streaming | None):
    err = io.StringIO()
    TextReport(io.StringIO(), err).event(step(streaming))
    assert "streamed" not in err.getvalue()


def test_programs_are_told_all_of_it(capsys):
    report = JsonReport()
    report.event(step(STREAMING))
    report.event(step(None))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["streaming"] == {
        "streamed_bytes": 6 * GIB,
        "copying_s": 0.5,
        "waited_s": 0.005,
        "bytes_per_s": 12 * GIB,
        "hidden_share": 0.99,
    }
    assert (first["memory"]["resident_bytes"], first["memory"]["slots_bytes"]) == (700, 300)
    assert second["streaming"] is None


def converting(done: int) -> Converting:
    return Converting(
        job_id="a",
        component="text_encoder",
        precision=Precision.FP8,
        done_bytes=done,
        total_bytes=200,
    )


class Terminal(io.StringIO):
    """A stream whose lines can be rewritten."""

    def isatty(self) -> bool:
        return True


def loading(done: int, total: int = 8 * GIB) -> Loading:
    return Loading(job_id="a", done_bytes=done, total_bytes=total)


def test_reading_a_model_is_a_bar_with_what_is_left():
    err, now_s = Terminal(), [0.0]
    report = TextReport(io.StringIO(), err, lambda: now_s[0])
    report.event(loading(0))
    now_s[0] = 3.0
    report.event(loading(2 * GIB))
    report.event(loading(8 * GIB))
    first, second, third = err.getvalue().split("\r\x1b[K")[1:]
    assert first == f"Loading the model  [{'-' * 24}]  0.0 of 8.0 GB"
    assert second == f"Loading the model  [{'#' * 6}{'-' * 18}]  2.0 of 8.0 GB  ETA 9 s"
    assert third == f"Loading the model  [{'#' * 24}]  8.0 of 8.0 GB"


@pytest.mark.parametrize(("columns", "bar"), [("100", True), ("80", True), ("60", False)])
def test_a_bar_leaves_the_figures_their_room(
    columns: str, bar: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", columns)
    err = Terminal()
    event = converting(50)
    TextReport(io.StringIO(), err).event(event)
    assert err.getvalue().endswith("50 of 200 B")
    assert ("[#" in err.getvalue()) is bar
    assert len(err.getvalue().removeprefix("\r\x1b[K")) < int(columns)


def test_reading_a_model_is_an_event_for_programs(capsys):
    JsonReport().event(loading(50, 200))
    assert json.loads(capsys.readouterr().out) == {
        "event": "loading",
        "done_bytes": 50,
        "total_bytes": 200,
    }


def test_quantizing_is_told_now_and_then_where_lines_stay():
    err = io.StringIO()
    report = TextReport(io.StringIO(), err)
    for done in range(0, 201, 5):
        report.event(converting(done))
    assert err.getvalue().splitlines() == [
        f"Converting the text encoder to fp8, once  {done} of 200 B" for done in range(0, 201, 50)
    ]


def test_quantizing_is_an_event_for_programs(capsys):
    JsonReport().event(converting(50))
    assert json.loads(capsys.readouterr().out) == {
        "event": "converting",
        "component": "text_encoder",
        "precision": "fp8",
        "done_bytes": 50,
        "total_bytes": 200,
    }


@pytest.mark.parametrize(
    ("copying_s", "waited_s", "share"), [(2.0, 0.5, 0.75), (1.0, 3.0, 0.0), (0.0, 0.0, 1.0)]
)
def test_the_hidden_share_is_between_nothing_and_all(
    copying_s: float, waited_s: float, share: float
):
    streaming = Streaming(streamed_bytes=8, copying_s=copying_s, waited_s=waited_s)
    assert streaming.hidden_share == share
    assert streaming.bytes_per_s == (8 / copying_s if copying_s else None)


def done(report: RunReport | None) -> JobFinished:
    return JobFinished(job_id="a", seconds=37.0, memory=MEMORY, report=report)


def test_at_the_end_people_are_told_what_was_waited_for_and_what_was_planned():
    err = io.StringIO()
    TextReport(io.StringIO(), err).done(done(streamed_report()), images=1)
    last = err.getvalue().splitlines()[-1]
    streamed = "24.0 GB of weights streamed at 12.0 GB/s, waited for 0.30 s (0.25 s planned)"
    assert last == f"Denoising: {streamed}"
    for nothing in (None, report()):
        err = io.StringIO()
        TextReport(io.StringIO(), err).done(done(nothing), images=1)
        assert "streamed" not in err.getvalue()


def test_at_the_end_programs_are_told_by_phase(capsys):
    for made in (streamed_report(), report(), None):
        JsonReport().done(done(made), images=1)
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    told = first["streaming"]["denoise"]
    assert told["streamed_bytes"] == 24 * GIB
    assert told["bytes_per_s"] == 12 * GIB
    assert told["compared"] == {"steps": 3, "planned_waiting_s": 0.25, "waited_s": 0.3}
    assert second["streaming"] == third["streaming"] == {}
