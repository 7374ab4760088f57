"""`models`: what it says is kept on the disk, and what it removes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.core.paths import app_paths
from app.core.policy import Precision
from app.core.settings import Settings, SettingsStore
from tests.fakes.converted import KLEIN, keep_prompt, make_converted
from tests.fakes.model_folder import SMALL, make_folder


@pytest.fixture
def converted() -> Path:
    """Folder of the converted weights, with three files; one prompt is kept besides."""
    folder = app_paths().converted_folder
    make_converted(folder, Precision.FP8, used_s=3000)
    make_converted(folder, Precision.NF4, component="text_encoder", used_s=2000)
    make_converted(folder, Precision.INT8, model="mine (FLUX.2 klein layout)")
    keep_prompt(app_paths().embeddings_folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `models` and return what it prints; it must go well."""

    def command(*arguments: str) -> str:
        assert main(["models", *arguments]) == 0, capsys.readouterr().err
        told = capsys.readouterr()
        assert told.err == ""
        return told.out

    return command


@pytest.fixture
def run_json(run: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Run `models --json` and return its last line."""
    return lambda *arguments: json.loads(run("--json", *arguments).splitlines()[-1])


def names(folder: Path) -> list[str]:
    return sorted(path.stem.rpartition("-")[0] for path in folder.iterdir())


def test_what_is_kept_is_listed_with_sizes(
    run: Callable[..., str], run_json: Callable[..., dict[str, Any]], converted: Path
) -> None:
    text = run()
    assert "3 files; prompts, 2.0 KB" in text
    sizes = [path.stat().st_size for path in converted.iterdir()]
    kept = run_json()
    assert kept["event"] == "kept"
    assert [one["precision"] for one in kept["converted"]] == ["fp8", "nf4", "int8"]
    assert kept["converted_bytes"] == sum(one["size_bytes"] for one in kept["converted"])
    assert sorted(one["size_bytes"] for one in kept["converted"]) == sorted(sizes)
    assert {Path(one["path"]) for one in kept["converted"]} == set(converted.iterdir())
    assert (kept["prompts_bytes"], kept["converted_folder"]) == (2048, str(converted))
    lines = text[text.index("Kept on disk") :].splitlines()
    assert lines[1].startswith(f"  {KLEIN}, transformer in fp8, 1.1 KB (transformer-fp8-")
    assert lines[2].startswith(f"  {KLEIN}, text encoder in 4 bits, ")


def test_nothing_kept_is_said(
    run: Callable[..., str], run_json: Callable[..., dict[str, Any]]
) -> None:
    assert "Kept on disk: no converted weights; prompts, 0 B" in run()
    assert (run_json()["converted"], run_json()["prompts_bytes"]) == ([], 0)
    assert "no converted weights" in run("--remove-converted", "all")


@pytest.mark.parametrize("name", ["klein-4b", KLEIN])
def test_a_models_files_are_removed_and_others_stay(
    run: Callable[..., str], converted: Path, name: str
) -> None:
    told = run("--remove-converted", name)
    assert told.count("removed: ") == 2
    assert names(converted) == ["transformer-int8"]
    assert "prompts, 2.0 KB" in run()


def test_a_model_is_named_by_its_folder(run: Callable[..., str], tmp_path: Path) -> None:
    model = make_folder(tmp_path / "mine", SMALL)
    SettingsStore(app_paths().settings_file).save(Settings(model_folders=(str(model),)))
    folder = app_paths().converted_folder
    make_converted(folder, Precision.FP8, model="mine (FLUX.2 klein layout)")
    make_converted(folder, Precision.FP8, model="other (FLUX.2 klein layout)")
    assert "removed: mine (FLUX.2 klein layout), transformer in fp8" in run(
        "--remove-converted", str(model)
    )
    assert len(names(folder)) == 1


def test_one_file_is_named(run: Callable[..., str], converted: Path) -> None:
    (path,) = converted.glob("*-fp8-*")
    run("--remove-converted", path.name)
    assert names(converted) == ["text_encoder-nf4", "transformer-int8"]


def test_all_and_prompts_go_together(
    run_json: Callable[..., dict[str, Any]], converted: Path
) -> None:
    (converted / "notes.txt").write_text("not ours")
    told = run_json("--remove-converted", "all", "--clear-prompts")
    assert told["event"] == "removed"
    assert (len(told["converted"]), told["prompts_bytes"]) == (3, 2048)
    assert told["converted_bytes"] == sum(one["size_bytes"] for one in told["converted"])
    assert [path.name for path in converted.iterdir()] == ["notes.txt"]
    assert list(app_paths().embeddings_folder.iterdir()) == []


def test_clearing_prompts_leaves_weights(run: Callable[..., str], converted: Path) -> None:
    assert run("--clear-prompts") == "removed: kept prompts, 2.0 KB\n"
    assert len(names(converted)) == 3


def test_an_unknown_name_removes_nothing(
    capsys: pytest.CaptureFixture[str], converted: Path
) -> None:
    assert main(["models", "--remove-converted", "klein-9b", "--clear-prompts"]) == 2
    assert "“klein-9b”" in capsys.readouterr().err
    assert len(names(converted)) == 3
    assert list(app_paths().embeddings_folder.iterdir())


def test_what_cannot_be_removed_is_told_and_the_rest_goes(
    capsys: pytest.CaptureFixture[str], converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows removes no open file.
    unlink = Path.unlink

    def in_use(path: Path, missing_ok: bool = False) -> None:
        if "-fp8-" in path.name:
            raise PermissionError(13, "in use")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", in_use)
    assert main(["models", "--remove-converted", "all", "--json"]) == 1
    removed, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(removed["converted"]) == 2
    assert error["code"] == "output.not_removed"
    assert names(converted) == ["transformer-fp8"]
