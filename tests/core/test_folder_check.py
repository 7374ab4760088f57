"""Whether a folder can be written is known before the work."""

import errno
import tempfile
from pathlib import Path

import pytest

from app.core.folder_check import existing_part, obstacle_to_writing


def test_folder_that_can_be_written_has_no_obstacle_and_stays_empty(tmp_path: Path):
    assert obstacle_to_writing(tmp_path) is None
    assert obstacle_to_writing(tmp_path / "made" / "later") is None
    assert list(tmp_path.iterdir()) == []


def test_file_in_the_way_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    obstacle = obstacle_to_writing(tmp_path / "file" / "pictures")
    assert obstacle is not None
    assert (obstacle.at, obstacle.is_file) == (tmp_path / "file", True)


def test_what_the_system_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_kwargs: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    obstacle = obstacle_to_writing(tmp_path / "pictures")
    assert obstacle is not None
    assert (obstacle.at, obstacle.reason) == (tmp_path, "Read-only file system")


def test_nearest_folder_that_is_there_is_found(tmp_path: Path):
    assert existing_part(tmp_path / "a" / "b") == tmp_path
    assert existing_part(tmp_path) == tmp_path
