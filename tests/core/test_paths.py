from pathlib import Path

import pytest

from app.core import paths
from app.core.paths import app_paths, resource


def test_home_variable_puts_everything_under_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HEADROOM_HOME", str(tmp_path / "portable"))
    found = app_paths()
    for folder in (found.config, found.data, found.cache, found.log, found.pictures):
        assert folder.parent == tmp_path / "portable"
    assert found.settings_file == found.config / "settings.json"
    assert found.queue_file == found.data / "queue.json"
    assert found.log_file == found.log / "headroom.log"


def test_without_home_variable_the_platforms_folders_are_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HEADROOM_HOME")
    found = app_paths()
    assert "headroom" in str(found.config)
    assert found.pictures.name == "Headroom"
    assert found.config.is_absolute()


def test_asking_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADROOM_HOME", str(tmp_path / "none"))
    app_paths()
    assert not (tmp_path / "none").exists()


def test_resource_is_found_in_the_source_tree():
    assert resource("icons").is_dir()


def test_resource_of_an_installed_package_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = tmp_path / "site" / "app" / "core" / "paths.py"
    installed = tmp_path / "site" / "app" / "resources"
    installed.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(module))
    assert resource("icons/a.svg") == installed / "icons" / "a.svg"


def test_resource_without_any_folder_still_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "app" / "core" / "paths.py"))
    monkeypatch.setattr(paths, "_SOURCE_ROOT", tmp_path)
    assert resource("models/demo") == tmp_path / "resources" / "models" / "demo"


@pytest.mark.parametrize("path", ["../secret", "icons/../../x", str(Path("/etc/passwd").resolve())])
def test_resource_refuses_to_leave_its_folder(path: str):
    with pytest.raises(ValueError, match="not a resource path"):
        resource(path)
