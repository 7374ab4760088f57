"""Stderr that cannot be written changes neither what is done nor the exit code."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.cli.progress import TextReport
from app.cli.report import SavedImage
from app.cli.stderr import rewrites, write_err
from app.core.errors import ErrorInfo
from app.core.events import Notice
from tests.fakes.streams import FullDisk, NobodyReads

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def test_text_is_written():
    stream = io.StringIO()
    write_err("a\n", stream)
    assert stream.getvalue() == "a\n"


@pytest.mark.parametrize("stream", [FullDisk(), NobodyReads(), closed()])
def test_a_stream_that_cannot_be_written_is_passed_over(stream: io.StringIO):
    write_err("a\n", stream)


def test_a_handle_that_was_never_open_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", None)
    write_err("a\n")
    assert not rewrites()


def test_a_run_is_told_on_stdout_where_there_is_no_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stderr", None)
    report = TextReport()
    report.notice(Notice(job_id="", code="a", message="b"))
    report.image(SavedImage(index=0, seed=1, path="/a.png"))
    report.error(ErrorInfo(code="a", message="b"))
    assert capsys.readouterr().out == "/a.png\n"


def test_bad_arguments_are_exit_2_where_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["plan", "--width", "x"]) == 2


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_a_full_stderr_does_not_change_the_exit_code():
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", "plan", "--width", "x"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert done.returncode == 2
    assert done.stdout == b""
