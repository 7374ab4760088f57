import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from installer import preflight
from installer.environment import Environment
from installer.failures import SetupFailedError


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def env(tmp_path):
    return Environment(folder=tmp_path / "below" / "venv")


def test_room_is_asked_of_the_disk_the_environment_will_be_on(env, tmp_path, monkeypatch):
    asked: list[Path] = []

    def disk_usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(total=10**12, used=0, free=10**12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    preflight.check_space(env, "cuda")
    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("kind", "need"), [("cpu", "3.5 GB"), ("cuda", "11.5 GB"), (None, "1.5 GB")]
)
def test_too_little_room_gets_one_sentence_with_figures(env, monkeypatch, kind, need):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(total=0, used=0, free=1_200_000_000))
    with pytest.raises(SetupFailedError) as caught:
        preflight.check_space(env, kind)
    assert f"needs {need}" in str(caught.value)
    assert "1.2 GB are free" in str(caught.value)


def test_complete_environment_needs_next_to_no_room(tmp_path):
    env = Environment(folder=tmp_path)
    (tmp_path / "pyvenv.cfg").write_text("version = 3.11.7\n")
    info = env.site_packages / "pyside6_essentials-6.11.2.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").touch()
    assert preflight.needed_bytes(env, None) < 10**9


def test_writable_folder_passes_and_stays_empty(env, tmp_path):
    preflight.check_writable(env)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_unwritable_folder_gets_one_sentence(env, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SetupFailedError, match="no permission to write"):
        preflight.check_writable(env)


def test_refused_write_gets_one_sentence_with_the_folder(env, tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "odd-name"))

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
    with pytest.raises(SetupFailedError) as caught:
        preflight.check_writable(env)
    assert f"no permission to write {tmp_path} while" in str(caught.value)


def test_environment_of_an_unsupported_python_gets_one_sentence(tmp_path):
    env = Environment(folder=tmp_path)
    preflight.check_environment_python(env, specifier=">=3.11,<3.14")
    (tmp_path / "pyvenv.cfg").write_text("version = 3.10.13\n")
    with pytest.raises(SetupFailedError, match=r"has Python 3\.10\.13"):
        preflight.check_environment_python(env, specifier=">=3.11,<3.14")
