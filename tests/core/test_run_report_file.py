"""A report as JSON and as a table."""

import csv
import io
import json
from pathlib import Path

import pytest

from app.core.run_report_file import report_csv, report_json, write_report
from tests.fakes.plans import gib
from tests.fakes.reports import report


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


def test_the_files_name_says_which_of_both_it_is(tmp_path: Path):
    write_report(report(), tmp_path / "a.CSV")
    write_report(report(), tmp_path / "a.json")
    assert (tmp_path / "a.CSV").read_text().startswith("phase,")
    assert (tmp_path / "a.json").read_text().startswith("{")
