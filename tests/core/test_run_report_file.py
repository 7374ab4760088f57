"""A report as JSON and as a table."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from app.core.metadata import ImageRecord, record_from_json, record_to_json
from app.core.request import GenerationRequest
from app.core.run_report import RunReport
from app.core.run_report_file import report_csv, report_json, write_report
from app.core.streaming import StreamedPhase
from tests.fakes.plans import gib
from tests.fakes.reports import STREAMED, report, streamed_report


def test_json_has_the_plan_the_phases_with_their_errors_and_the_rungs():
    values = json.loads(report_json(report()))
    assert values["schema_version"] == 1
    assert values["plan"]["verdict"] == "fits"
    denoise = values["phases"][2]
    assert denoise["phase"] == "denoise"
    assert denoise["planned_bytes"] == gib(7.3) + gib(1.0)
    assert denoise["bytes_error"] == pytest.approx(0.03, abs=1e-3)
    assert denoise["seconds_error"] == pytest.approx(0.1)
    assert values["rungs"][0]["after"] == "decode in 512 px tiles"


def test_the_table_has_a_line_a_phase_and_leaves_out_what_was_not_measured():
    rows = list(csv.DictReader(io.StringIO(report_csv(report()))))
    assert [row["phase"] for row in rows] == ["load", "encode", "denoise", "decode", "save"]
    assert rows[3]["measured_bytes"] == ""
    assert rows[3]["measured_seconds"] == "4.0"
    assert rows[4]["measured_seconds"] == ""


def test_of_a_run_that_streamed_waits_are_planned_and_measured():
    denoise = json.loads(report_json(streamed_report()))["phases"][2]
    assert denoise["planned_waiting_seconds"] == 0.25
    assert denoise["waited_seconds"] == 0.3
    assert denoise["streamed_bytes"] == gib(24)
    assert denoise["streamed_bytes_per_s"] == gib(12)
    rows = list(csv.DictReader(io.StringIO(report_csv(streamed_report()))))
    assert rows[2]["waited_seconds"] == "0.3"
    assert rows[1]["waited_seconds"] == rows[1]["streamed_bytes"] == ""


def test_waits_of_a_phase_in_which_none_is_compared_are_left_out():
    made = report()
    alone = replace(made.phases[1], streamed=StreamedPhase(streaming=STREAMED.streaming))
    made = replace(made, phases=(made.phases[0], alone, *made.phases[2:]))
    rows = list(csv.DictReader(io.StringIO(report_csv(made))))
    assert rows[1]["streamed_bytes"] == str(gib(24))
    assert rows[1]["waited_seconds"] == rows[1]["planned_waiting_seconds"] == ""


def test_reports_of_older_versions_are_read():
    old = msgspec.to_builtins(streamed_report())
    for phase in old["phases"]:
        del phase["streamed"]
    assert msgspec.convert(old, RunReport) == report()
    record = ImageRecord(request=GenerationRequest(prompt="a"), phases=streamed_report().phases)
    text = record_to_json(record)
    assert record_from_json(text) == record
    values = json.loads(text)
    values["phases"] = old["phases"]
    read = record_from_json(json.dumps(values))
    assert read is not None
    assert read.phases == report().phases


def test_the_files_name_says_which_of_both_it_is(tmp_path: Path):
    write_report(report(), tmp_path / "a.CSV")
    write_report(report(), tmp_path / "a.json")
    assert (tmp_path / "a.CSV").read_text().startswith("phase,")
    assert (tmp_path / "a.json").read_text().startswith("{")
