"""A log file on a disk that is full: no stack among what the user reads, no exception."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.log_file import LogFile


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[LogFile]:
    made = LogFile(tmp_path / "a.log", maxBytes=1000, backupCount=1, encoding="utf-8")
    yield made
    made.close()


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "a.py", 1, message, arguments, None)


def test_records_are_written(log_file: LogFile) -> None:
    log_file.handle(record("a"))
    assert Path(log_file.baseFilename).read_text(encoding="utf-8") == "a\n"


def test_a_full_disk_is_silent(
    log_file: LogFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file.close()
    monkeypatch.setattr(log_file, "stream", FullDisk())
    log_file.handle(record("a"))
    assert capsys.readouterr().err == ""
    log_file.close()


def test_a_mistake_of_ours_is_still_told(
    log_file: LogFile, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file.handle(record("%d", "no number"))
    assert "Logging error" in capsys.readouterr().err
