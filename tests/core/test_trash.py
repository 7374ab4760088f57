"""Files taken away can be had back, with and without a trash of the system's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.trash import OWN_TRASH, move_beside, move_to_trash

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_system_trash_it_goes_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_trash(_path: str) -> None:
        raise PermissionError("no trash on this disk")

    monkeypatch.setattr("send2trash.send2trash", no_trash)
    for text in ("one", "two"):
        (tmp_path / "a.toml").write_text(text, encoding="utf-8")
        move_to_trash(tmp_path / "a.toml")
    kept = sorted((tmp_path / OWN_TRASH).iterdir())
    assert [path.name for path in kept] == ["a-2.toml", "a.toml"]
    assert [path.read_text(encoding="utf-8") for path in kept] == ["two", "one"]
    assert not (tmp_path / "a.toml").exists()


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        move_beside(tmp_path / "a.toml")


@pytest.mark.skipif(sys.platform != "linux", reason="only this trash can be moved elsewhere")
def test_the_system_trash_is_used_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("one", encoding="utf-8")
    code = (
        f"from pathlib import Path; from app.core.trash import move_to_trash; "
        f"move_to_trash(Path({str(file)!r}))"
    )
    # A process of its own: the place of the trash is read when the library is imported.
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    assert not file.exists()
    assert (tmp_path / "data" / "Trash" / "files" / "a.toml").read_text(encoding="utf-8") == "one"
