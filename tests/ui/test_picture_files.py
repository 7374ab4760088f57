"""Saving, trashing and reading back a picture's file."""

import errno
import sys
from pathlib import Path

import pytest

from app.core.errors import OutputError
from app.core.metadata import ImageRecord
from app.core.request import GenerationRequest
from app.ui.models import picture_files
from app.ui.models.picture_files import (
    move_to_trash,
    restore_from_trash,
    save_copy,
    settings_of,
)
from tests.ui.run_events import write_png

pytestmark = pytest.mark.usefixtures("qapp")


def failing_with(number: int):
    def write(path: Path, data: bytes) -> None:
        raise OSError(number, "no")

    return write


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EACCES, "may not be written"),
        (errno.EIO, "could not be written (no)"),
    ],
)
def test_save_says_what_is_wrong(tmp_path, monkeypatch, number: int, sentence: str):
    monkeypatch.setattr(picture_files, "write_atomic", failing_with(number))
    with pytest.raises(OutputError) as caught:
        save_copy(b"png", tmp_path / "a.png")
    assert sentence in caught.value.message
    assert str(tmp_path / "a.png") in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="only there is the trash a folder one can set")
def test_trash_and_back_through_the_system(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = write_png(tmp_path / "a.png")
    data = path.read_bytes()
    trashed = move_to_trash(path)
    assert trashed is not None
    assert not path.exists()
    assert trashed.read_bytes() == data
    note = trashed.parent.parent / "info" / f"{trashed.name}.trashinfo"
    assert note.exists()
    restore_from_trash(trashed, path)
    assert path.read_bytes() == data
    assert not trashed.exists()
    assert not note.exists()


def test_trashing_what_is_not_there_fails(tmp_path):
    with pytest.raises(OutputError, match="could not be moved to the trash"):
        move_to_trash(tmp_path / "gone.png")


def test_restoring_what_is_gone_fails(tmp_path):
    with pytest.raises(OutputError, match="could not be brought back"):
        restore_from_trash(tmp_path / "gone.png", tmp_path / "a.png")


def test_settings_make_exactly_the_picture(tmp_path, monkeypatch):
    record = ImageRecord(
        request=GenerationRequest(prompt="a ring", seed=10, images=4), index=2, seed=12
    )
    monkeypatch.setattr(picture_files, "read_record", lambda path: record)
    found = settings_of(tmp_path / "a.png")
    assert found is not None
    assert found.request == GenerationRequest(prompt="a ring", seed=12, images=1)


def test_picture_from_elsewhere_has_no_settings(tmp_path):
    assert settings_of(write_png(tmp_path / "a.png")) is None
    assert settings_of(tmp_path / "gone.png") is None
