"""`presets` on the command line: what it prints, what it writes, its exit codes."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import main, presets
from app.cli.gpu_here import GpuHere
from app.core.errors import SetupError
from app.core.paths import app_paths
from app.core.policy import Attention, MemoryMode, Precision
from app.core.preset_store import PresetStore
from app.core.trash import move_beside
from app.core.units import GIB
from tests.fakes import hardware

RTX = GpuHere(snapshot=hardware.device(total_gib=12), driver="NVIDIA 580.65")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[GpuHere | None], None]:
    """A machine with a GPU of 12 GB, or another; deleted presets go beside the others."""
    monkeypatch.setattr(presets, "move_to_trash", move_beside)

    def install(gpu: GpuHere | None) -> None:
        monkeypatch.setattr(presets, "gpu_here", lambda _device: gpu)

    install(RTX)
    return install


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `presets` and return what it prints; it must go well and warn of nothing."""

    def command(*arguments: str) -> str:
        assert main(["presets", *arguments]) == 0, capsys.readouterr().err
        told = capsys.readouterr()
        assert told.err == ""
        return told.out

    return command


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `presets` and return the sentence it refuses with."""

    def command(*arguments: str, code: int = 2) -> str:
        assert main(["presets", *arguments]) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        return told.err

    return command


def store() -> PresetStore:
    return PresetStore(app_paths().presets_folder)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_list_marks_what_is_in_use(run: Callable[..., str]):
    lines = run("list").splitlines()
    assert [line[0] for line in lines] == [" ", " ", "*", " ", " ", " "]
    assert lines[2].split() == ["*", "12", "GB", "built-in", "GPUs", "from", "12", "GB"]
    run("save", "mine", "--headroom-gib", "1.5", "--model", "klein-4b")
    last = run("list").splitlines()[-1]
    assert last.split() == ["mine", "yours", "Fake", "GPU,", "12", "GB,", "klein-4b"]


@pytest.mark.parametrize("before", [True, False])
def test_json_may_stand_before_or_after_the_action(run: Callable[..., str], before: bool):
    found = rows(run("--json", "list") if before else run("list", "--json"))
    assert [row["vram_bytes"] for row in found] == [n * GIB for n in (6, 8, 12, 16, 24, 32)]
    assert [row["in_use"] for row in found] == [False, False, True, False, False, False]


def test_show_prints_a_file_that_can_be_used(run: Callable[..., str]):
    values = tomllib.loads(run("show", "12 gb"))
    assert values["name"] == "12 GB"
    assert values["memory"]["headroom_gb"] == 0.75
    (row,) = rows(run("show", "12 GB", "--json"))
    assert row["headroom_bytes"] == round(0.75 * GIB)
    assert row["precision"] == dict.fromkeys(("text_encoder", "transformer", "autoencoder"), "auto")
    assert row["builtin"]


def test_save_takes_what_is_in_use_with_changes(run: Callable[..., str]):
    out = run(
        *("save", "mine", "--headroom-gib", "1.5", "--mode", "minimal", "--tile", "512"),
        *("--strict", "--transformer", "bf16", "--max-images", "4", "--max-side", "0"),
        *("--steps", "6", "--limit-gib", "10", "--attention", "chunked", "--compile"),
        *("--text-encoder", "4bit"),
    )
    assert out == f"“mine” is saved as {app_paths().presets_folder / 'mine.toml'}.\n"
    preset = store().find("mine").preset
    builtin = store().find("12 GB").preset
    assert (preset.gpu_name, preset.vram_bytes) == ("Fake GPU", 12 * GIB)
    assert preset.policy.headroom_bytes == round(1.5 * GIB)
    assert preset.policy.limit_bytes == 10 * GIB
    assert (preset.policy.mode, preset.policy.tile_px) == (MemoryMode.MINIMAL, 512)
    assert preset.policy.strict
    assert preset.policy.precisions.transformer is Precision.BF16
    assert preset.policy.precisions.text_encoder is Precision.NF4
    assert (preset.policy.attention, preset.policy.compile) == (Attention.CHUNKED, True)
    assert preset.limits.max_images == 4
    assert preset.limits.max_side_px is None
    assert preset.limits.max_pixels == builtin.limits.max_pixels
    assert preset.steps == 6


def test_save_can_begin_with_another_and_take_things_back(run: Callable[..., str]):
    run("save", "a", "--strict", "--tile", "whole", "--limit-gib", "10", "--guidance", "2.5")
    run("save", "b", "--from", "A", "--no-strict", "--tile", "auto", "--limit-gib", "0")
    first, second = store().find("a").preset, store().find("b").preset
    assert (first.policy.strict, first.policy.tile_px) == (True, 0)
    assert (second.policy.strict, second.policy.tile_px) == (False, None)
    assert second.policy.limit_bytes is None
    assert second.guidance == first.guidance == 2.5


def test_save_for_any_gpu_and_for_the_processor(
    run: Callable[..., str], here: Callable[[GpuHere | None], None]
):
    run("save", "any", "--any-gpu")
    here(None)
    run("save", "cpu")
    for name in ("any", "cpu"):
        preset = store().find(name).preset
        assert (preset.gpu_name, preset.vram_bytes) == (None, None)


def test_save_replaces_only_on_demand(run: Callable[..., str], refused: Callable[..., str]):
    run("save", "mine")
    assert "already" in refused("save", "mine", "--strict")
    run("save", "mine", "--strict", "--replace")
    assert store().find("mine").preset.policy.strict
    assert "comes with the app" in refused("save", "8 gb", "--replace")


def test_a_newer_file_is_kept_and_told(capsys: pytest.CaptureFixture[str]):
    folder = app_paths().presets_folder
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_bytes(b"schema_version = 9\nname = 'mine'\n")
    assert main(["presets", "save", "mine", "--replace", "--json"]) == 0
    told = capsys.readouterr()
    (row,) = rows(told.out)
    assert (row["event"], row["action"], row["name"]) == ("preset", "saved", "mine-2")
    assert "is not named “mine”" in told.err
    assert "newer Headroom" in told.err
    assert (folder / "mine.toml").read_bytes() == b"schema_version = 9\nname = 'mine'\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tile", "100"], "unusable memory.tile_px: it is auto, whole or a side in pixels"),
        (["--tile", "x"], "“x” is no decode tile"),
        (["--tile", "-5"], "“-5” is no decode tile"),
        (["--steps", "2000"], "unusable defaults.steps: it is a whole number, 1 to 1000."),
        (["--max-side", "10", "--max-images", "99"], "limits.max_images"),
        (["--guidance", "nan"], "unusable defaults.guidance"),
        (["--model", "klein-99"], "“klein-99” is no model"),
        (["--model", ""], "is no model"),
        (["--from", "nothing"], "There is no preset “nothing”"),
        (["--headroom-gib", "-1"], "“-1” is not from 0"),
        (["--mode", "turbo"], "“turbo” is no memory mode"),
        (["--autoencoder", "fp8"], "invalid choice"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_sentence(
    refused: Callable[..., str], arguments: list[str], told: str
):
    assert told in refused("save", "mine", *arguments)
    assert not app_paths().presets_folder.exists()


def test_a_models_folder_may_be_named(run: Callable[..., str], tmp_path: Path):
    run("save", "mine", "--model", str(tmp_path))
    assert store().find("mine").preset.model == str(tmp_path)


def test_apply_makes_a_default_and_takes_it_back(run: Callable[..., str]):
    run("save", "mine", "--any-gpu")
    assert run("apply", "Mine") == "“mine” is used on Fake GPU from now on.\n"
    assert [row["name"] for row in rows(run("list", "--json")) if row["in_use"]] == ["mine"]
    out = run("apply", "--automatic")
    assert out == "The preset for Fake GPU is chosen automatically: now “12 GB”.\n"
    (row,) = rows(run("apply", "--automatic", "--json"))
    assert row == {"event": "preset", "action": "automatic", "name": "12 GB"}


def test_apply_for_the_processor(run: Callable[..., str], here: Callable[[GpuHere | None], None]):
    here(None)
    assert "*" not in run("list")
    assert run("apply", "8 GB") == "“8 GB” is used on the processor from now on.\n"
    assert "* 8 GB" in run("list")
    assert "now none" in run("apply", "--automatic")


def test_rename_and_delete(run: Callable[..., str], refused: Callable[..., str]):
    run("save", "mine")
    assert run("rename", "mine", "yours") == "The preset is now called “yours”.\n"
    assert run("delete", "YOURS") == "“yours” is in the trash.\n"
    assert (app_paths().presets_folder / ".trash" / "yours.toml").exists()
    assert "There is no preset" in refused("delete", "yours")
    assert "cannot be deleted" in refused("delete", "8 GB")


def test_import_and_export(run: Callable[..., str], refused: Callable[..., str], tmp_path: Path):
    target = tmp_path / "given.toml"
    assert run("export", "12 GB", str(target)) == f"“12 GB” is written to {target}.\n"
    (row,) = rows(run("import", str(target), "--json"))
    assert (row["action"], row["name"], row["problems"]) == ("imported", "12 GB-2", [])
    assert "exists already" in refused("export", "12 GB", str(target))
    assert "cannot be opened" in refused("import", str(tmp_path / "none.toml"))
    assert "has no name" in refused("import", " ")
    (tmp_path / "x.toml").write_text("[project]", encoding="utf-8")
    assert "is no preset" in refused("import", str(tmp_path / "x.toml"))


def test_without_an_action_the_actions_are_named(refused: Callable[..., str]):
    assert "ACTION" in refused()
    assert "invalid choice" in refused("dance")
    assert "required" in refused("apply")
    assert "not allowed with" in refused("apply", "x", "--automatic")


def test_a_gpu_that_is_not_there_is_a_sentence(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    def missing(device: str) -> None:
        raise SetupError(f"There is no GPU {device}.")

    monkeypatch.setattr(presets, "gpu_here", missing)
    assert "There is no GPU cuda:9" in refused("--device", "cuda:9", "list", code=1)


def test_a_folder_that_cannot_be_written_is_a_sentence(refused: Callable[..., str]):
    app_paths().config.mkdir(parents=True, exist_ok=True)
    app_paths().presets_folder.write_text("", encoding="utf-8")
    assert "cannot be written" in refused("save", "mine", code=1)


def test_a_broken_preset_is_told_only_where_it_matters(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    folder = app_paths().presets_folder
    folder.mkdir(parents=True)
    (folder / "broken.toml").write_bytes(b"name = 'broken'\n[memory]\nmode = 'tiny'\n")
    for command in (["show", "8 GB"], ["save", "mine"], ["apply", "mine"], ["rename", "mine", "x"]):
        run(*command)  # It warns of nothing.
    for command in (["list"], ["show", "broken"], ["apply", "broken"]):
        assert main(["presets", *command]) == 0
        assert capsys.readouterr().err.count("“broken”") == 1
