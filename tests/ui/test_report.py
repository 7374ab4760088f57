"""The report after a run: reached from the picture, read, copied, saved."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QPushButton, QTableWidget
from pytestqt.qtbot import QtBot

from app.core.events import JobFinished
from app.core.metadata import ImageRecord
from app.core.plan import Verdict
from app.core.request import GenerationRequest
from app.engine.output import encode_png
from app.ui.panels.report_dialog import ReportDialog
from tests.fakes.reports import report, streamed_report
from tests.ui.find import find
from tests.ui.picture_studio import PictureStudio
from tests.ui.run_events import MEMORY


@pytest.fixture
def dialog(qtbot: QtBot) -> ReportDialog:
    made = ReportDialog(report(), "fox.png")
    qtbot.addWidget(made)
    made.show()
    return made


def cells(dialog: ReportDialog, row: int) -> list[str]:
    table = find(dialog, QTableWidget, "report_table")
    items = (table.item(row, column) for column in range(table.columnCount()))
    return ["" if item is None else item.text() for item in items]


def click(qtbot: QtBot, dialog: ReportDialog, name: str) -> None:
    qtbot.mouseClick(find(dialog, QPushButton, name), Qt.MouseButton.LeftButton)


def test_each_phase_has_planned_measured_and_error(dialog: ReportDialog):
    assert cells(dialog, 2) == ["Denoise", "8.3 GB", "8.5 GB", "+3 %", "24 s", "26 s", "+10 %"]
    assert cells(dialog, 1)[-1] == "−5 %"
    assert cells(dialog, 4)[2:] == ["–", "–", "0.50 s", "–", "–"]


def test_of_a_run_that_streamed_the_table_tells_what_was_waited_for(
    qtbot: QtBot, dialog: ReportDialog
):
    assert find(dialog, QTableWidget, "report_table").columnCount() == 7
    streamed = ReportDialog(streamed_report(), "fox.png")
    qtbot.addWidget(streamed)
    assert cells(streamed, 2)[7:] == ["24.0 GB", "12.0 GB/s", "0.25 s", "0.30 s"]
    assert cells(streamed, 3)[7:] == ["–"] * 4
    table = find(streamed, QTableWidget, "report_table")
    heads = [head for column in range(7, 11) if (head := table.horizontalHeaderItem(column))]
    assert [head.text() for head in heads] == ["Streamed", "Rate", "Wait planned", "Waited"]
    assert "from the second step on" in heads[3].toolTip()


def test_the_summary_tells_peak_and_time(dialog: ReportDialog):
    said = find(dialog, QLabel, "report_summary").text()
    assert "8.3 GB planned at the peak, 8.5 GB measured" in said
    assert "34 s planned, 37 s taken" in said


def test_rungs_that_were_taken_are_listed_with_their_reason(dialog: ReportDialog):
    said = find(dialog, QLabel, "report_rungs").text()
    assert "decode in 512 px tiles" in said
    assert "Another program took 2.1 GB." in said


def test_a_run_that_was_gone_on_with_says_so(qtbot: QtBot):
    made = ReportDialog(report(resumed_at=18, rungs=()), "fox.png")
    qtbot.addWidget(made)
    assert "went on at step 19" in find(made, QLabel, "report_summary").text()


def test_the_table_goes_to_the_clipboard(qtbot: QtBot, dialog: ReportDialog):
    click(qtbot, dialog, "report_copy")
    assert QGuiApplication.clipboard().text().startswith("phase,planned_bytes")


def test_it_is_saved_where_the_user_says(qtbot: QtBot, dialog, tmp_path: Path, monkeypatch):
    asked: list[str] = []

    def ask(cls, parent, suggested):
        asked.append(suggested)
        return tmp_path / "report.csv"

    monkeypatch.setattr(ReportDialog, "ask_file", classmethod(ask))
    click(qtbot, dialog, "report_save")
    assert asked == ["fox-report.json"]
    assert (tmp_path / "report.csv").read_text().startswith("phase,")
    assert "report.csv" in find(dialog, QLabel, "report_said").text()


def test_a_file_that_cannot_be_written_is_told(qtbot: QtBot, dialog, tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "report.json"
    monkeypatch.setattr(ReportDialog, "ask_file", classmethod(lambda *_: target))
    click(qtbot, dialog, "report_save")
    assert "cannot be saved" in find(dialog, QLabel, "report_said").text()


def test_a_pictures_report_is_reached_from_the_picture(qtbot: QtBot, tmp_path: Path):
    studio = PictureStudio(qtbot, tmp_path)
    studio.run("a")
    action = studio.panel.commands.report
    assert not action.isEnabled()
    studio.start("b")
    with qtbot.waitSignal(studio.results.picture_loaded):
        studio.image("b")
    assert not action.isEnabled()
    done = JobFinished(job_id="b", seconds=3.0, memory=MEMORY, report=report())
    studio.engine.on_event(done)
    assert action.isEnabled()
    action.trigger()
    opened = find(studio.panel, ReportDialog, "report_dialog")
    assert opened.isVisible()
    opened.close()
    studio.close()


def picture_with_report(path: Path, **changes: Any) -> Path:
    """A PNG as the engine writes it."""
    made = report()
    record = ImageRecord(
        request=GenerationRequest(prompt="a fox"),
        verdict=Verdict.FITS.value,
        phases=made.phases[:-1],
        rungs=made.rungs,
    )
    png = encode_png(bytes(3), width_px=1, height_px=1, record=replace(record, **changes))
    path.write_bytes(png)
    return path


def opened(studio: PictureStudio) -> ReportDialog:
    studio.panel.commands.report.trigger()
    return find(studio.panel, ReportDialog, "report_dialog")


def test_a_picture_that_is_opened_brings_its_report(qtbot: QtBot, tmp_path: Path, monkeypatch):
    studio = PictureStudio(qtbot, tmp_path)
    action = studio.panel.commands.report
    assert not action.isEnabled()
    with qtbot.waitSignal(studio.panel.use_settings):
        studio.panel.load_settings_from(picture_with_report(tmp_path / "fox.png"))
    assert action.isEnabled()
    dialog = opened(studio)
    assert dialog.windowTitle() == "Report of fox.png"
    assert cells(dialog, 2) == ["Denoise", "8.3 GB", "8.5 GB", "+3 %", "24 s", "26 s", "+10 %"]
    assert find(dialog, QTableWidget, "report_table").rowCount() == 4
    assert "decode in 512 px tiles" in find(dialog, QLabel, "report_rungs").text()
    target = tmp_path / "report.json"
    monkeypatch.setattr(ReportDialog, "ask_file", classmethod(lambda *_: target))
    click(qtbot, dialog, "report_save")
    saved = json.loads(target.read_bytes())
    assert saved["verdict"] == "fits"
    assert [phase["phase"] for phase in saved["phases"]] == ["load", "encode", "denoise", "decode"]
    dialog.close()
    studio.close()


def test_the_report_is_of_the_picture_opened_or_chosen_last(qtbot: QtBot, tmp_path: Path):
    studio = PictureStudio(qtbot, tmp_path)
    action = studio.panel.commands.report
    studio.panel.load_settings_from(picture_with_report(tmp_path / "fox.png"))
    studio.run("a")
    assert not action.isEnabled(), "of the new picture nobody told"
    studio.panel.load_settings_from(picture_with_report(tmp_path / "fox.png"))
    assert action.isEnabled()
    older = picture_with_report(tmp_path / "older.png", phases=(), rungs=())
    studio.panel.load_settings_from(older)
    assert not action.isEnabled()
    studio.close()


def test_what_took_many_times_as_long_is_told_in_times_and_why(qtbot: QtBot):
    made = report()
    slow = replace(made.phases[2], planned_seconds=0.4, measured_seconds=8.0)
    phases = (*made.phases[:2], slow, *made.phases[3:])
    plan = replace(made.plan, measured_runs=0)
    dialog = ReportDialog(replace(made, phases=phases, plan=plan), "fox.png")
    qtbot.addWidget(dialog)
    assert cells(dialog, 2)[-1] == "× 20"
    assert "the times were assumptions" in find(dialog, QLabel, "report_summary").text()
    plan = replace(made.plan, measured_runs=3)
    known = ReportDialog(replace(made, plan=plan), "fox.png")
    qtbot.addWidget(known)
    assert "assumptions" not in find(known, QLabel, "report_summary").text()
