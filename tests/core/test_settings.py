import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.settings import SCHEMA_VERSION, Settings, SettingsStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.json"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def test_missing_file_gives_defaults_without_a_problem(file: Path):
    store = SettingsStore(file)
    assert store.load() == Settings()
    assert store.problems == ()


def test_saved_settings_come_back(file: Path):
    settings = Settings(
        theme="dark", preview=False, model_folders=("/a", "/ü"), name_template="{seed}"
    )
    SettingsStore(file).save(settings)
    assert SettingsStore(file).load() == settings


def test_file_says_its_schema_version(file: Path):
    SettingsStore(file).save(Settings())
    assert json.loads(file.read_text("utf-8"))["schema_version"] == SCHEMA_VERSION


def test_bad_value_costs_only_itself(file: Path, expect_log: Callable[..., None]):
    expect_log("setting theme")
    expect_log("setting model_folders")
    write(file, '{"theme": "pink", "preview": false, "model_folders": "x"}')
    store = SettingsStore(file)
    assert store.load() == Settings(preview=False)
    assert store.problems == (
        "The setting “theme” cannot be used and has its default.",
        "The setting “model_folders” cannot be used and has its default.",
    )


def test_keys_of_a_newer_version_are_kept(file: Path):
    write(file, '{"schema_version": 7, "hologram": {"on": true}, "theme": "dark"}')
    store = SettingsStore(file)
    settings = store.load()
    assert store.problems == ()
    store.save(replace(settings, theme="light"))
    values = json.loads(file.read_text("utf-8"))
    assert values["hologram"] == {"on": True}
    assert values["schema_version"] == 7
    assert values["theme"] == "light"


@pytest.mark.parametrize("version", ['"7"', "null", "[1]", "1.5", "true"])
def test_broken_schema_version_does_not_stop_saving(file: Path, version: str):
    write(file, f'{{"schema_version": {version}}}')
    store = SettingsStore(file)
    store.save(store.load())
    assert json.loads(file.read_text("utf-8"))["schema_version"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    "text",
    [
        "{broken",
        "[1, 2]",
        "",
        '"text"',
        "\udcff",
        '{"theme": "\udcff"}',
        '{"theme":' + "[" * 100_000,
    ],
)
def test_unreadable_file_is_set_aside(file: Path, text: str, expect_log: Callable[..., None]):
    expect_log("settings cannot be read")
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode(errors="surrogateescape"))
    store = SettingsStore(file)
    assert store.load() == Settings()
    (problem,) = store.problems
    assert "settings.broken.json" in problem
    assert not file.exists()
    assert file.with_suffix(".broken.json").exists()


def test_unreadable_file_that_cannot_be_moved_still_gives_defaults(
    file: Path, expect_log: Callable[..., None]
):
    expect_log("settings cannot be read")
    file.mkdir(parents=True)
    (file.with_suffix(".broken.json") / "in the way").mkdir(parents=True)
    store = SettingsStore(file)
    assert store.load() == Settings()
    assert store.problems == ("The settings file cannot be read, and the defaults are used.",)


def test_problems_of_an_earlier_load_are_forgotten(file: Path, expect_log: Callable[..., None]):
    expect_log("setting theme")
    write(file, '{"theme": 1, "old": 1}')
    store = SettingsStore(file)
    store.load()
    write(file, "{}")
    store.load()
    assert store.problems == ()
    store.save(Settings())
    assert "old" not in json.loads(file.read_text("utf-8"))


def test_failed_save_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    SettingsStore(file).save(Settings(theme="dark"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        SettingsStore(file).save(Settings(theme="light"))
    assert SettingsStore(file).load().theme == "dark"
