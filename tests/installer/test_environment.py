import sys

import pytest

from installer import environment as environments
from installer.environment import Environment
from installer.failures import SetupFailedError


@pytest.fixture
def env(tmp_path):
    env = Environment(folder=tmp_path)
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    env.site_packages.mkdir(parents=True)
    return env


def add_package(env, name, *, is_whole=True):
    info = env.site_packages / f"{name}.dist-info"
    info.mkdir()
    (info / "METADATA").touch()
    if is_whole:
        (info / "RECORD").touch()


@pytest.mark.parametrize("line", ["version = 3.12.1", "version_info = 3.12.1.final.0"])
def test_python_version_is_read(tmp_path, line):
    (tmp_path / "pyvenv.cfg").write_text(f"home = x\n{line}\n")
    assert Environment(folder=tmp_path).python_version == "3.12.1"


def test_missing_environment_has_nothing(tmp_path):
    env = Environment(folder=tmp_path / "missing")
    assert env.python_version == ""
    assert env.installed_version("torch") == ""
    assert not environments.is_healthy(env)
    assert environments.sweep_half_installed(env) == []


def test_installed_version_ignores_case_and_half_installed_packages(env):
    add_package(env, "PySide6_Essentials-6.11.2")
    add_package(env, "torch-2.13.0+cu130", is_whole=False)
    assert env.installed_version("pyside6_essentials") == "6.11.2"
    assert env.installed_version("torch") == ""


def test_sweep_removes_only_what_is_half_installed(env):
    add_package(env, "torch-2.13.0", is_whole=False)
    add_package(env, "numpy-2.4.6")
    (env.site_packages / "~umpy").mkdir()
    (env.site_packages / "numpy").mkdir()
    assert sorted(environments.sweep_half_installed(env)) == ["torch-2.13.0.dist-info", "~umpy"]
    left = sorted(path.name for path in env.site_packages.iterdir())
    assert left == ["numpy", "numpy-2.4.6.dist-info"]


def test_folder_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADROOM_VENV", str(tmp_path / "elsewhere"))
    assert environments.environment().folder == tmp_path / "elsewhere"
    monkeypatch.delenv("HEADROOM_VENV")
    assert environments.environment().folder.name == ".venv"


def test_python_without_venv_gets_the_command_to_type(env, monkeypatch):
    monkeypatch.setattr(environments, "can_create", lambda: False)
    with pytest.raises(SetupFailedError, match=rf"python3\.{sys.version_info[1]}-venv"):
        environments.create(env)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="makes a link")
def test_environment_of_a_removed_python_is_made_again(tmp_path):
    env = Environment(folder=tmp_path / "venv")
    env.python.parent.mkdir(parents=True)
    env.python.symlink_to(tmp_path / "removed")
    (env.folder / "old.txt").touch()
    assert not environments.is_healthy(env)
    environments.create(env)
    assert environments.is_healthy(env)
    assert not (env.folder / "old.txt").exists()
