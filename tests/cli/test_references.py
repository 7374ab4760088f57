"""Reference images on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli import gpu_here, main
from app.cli.arguments import parse
from app.cli.references import planned_sizes, reference_paths
from app.cli.request import request_of
from app.core.errors import RequestError
from app.core.request import MAX_REFERENCES
from app.engine.model_folder import inspect_model_folder
from tests.fakes.model_folder import SMALL, make_folder
from tests.fakes.pictures import picture_file


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_here, "find_probes", tuple)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    described = ("--model", "klein-4b", "--vram-gib", "24", "--json")
    assert main(["plan", *described, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def working_bytes(plan: dict[str, Any]) -> int:
    (denoise,) = [phase for phase in plan["phases"] if phase["name"] == "denoise"]
    return denoise["working_bytes"]


def test_plans_take_numbers_sizes_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = picture_file(tmp_path / "wide.jpg", 1600, 1200)
    none = working_bytes(planned(capsys))
    by_number = working_bytes(planned(capsys, "--references", "1"))
    by_size = working_bytes(planned(capsys, "--reference", "1600x1200"))
    by_file = working_bytes(planned(capsys, "--reference", file))
    both = working_bytes(planned(capsys, "--references", "1", "--reference", "1600×1200"))
    assert none < by_size == by_file <= by_number < both


def test_sizes_are_files_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    picture_file(tmp_path / "64x64", 100, 80, format="PNG")
    assert planned_sizes(1, ["64x64", "64X128"]) == ((1024, 1024), (100, 80), (64, 128))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--reference", "0x64"], "0x64 is no size"),
        (["--reference", "99999x64"], "99999x64 is no size"),
        (["--reference", "gone.png"], "gone.png is not there"),
        (["--references", "10", "--reference", "64x64"], "Reference images are 11"),
        (["--reference", "64x64"] * 11, "Reference images are 11"),
        (["--width", "0", "--references", "11"], "The width is 0 px"),
        (["--reference", "99999999x1"], "99999999x1 is no size"),
    ],
)
def test_plans_of_what_there_is_not_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["plan", "--model", "klein-4b", "--vram-gib", "24", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_files_to_follow_are_in_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    picture_file(tmp_path / "one.png", 64, 64)
    picture_file(tmp_path / "two.webp", 64, 64)
    make_folder(tmp_path / "model", SMALL)
    options = ["--prompt", "a", "--reference", "one.png", "--reference", "~/two.webp"]
    arguments = parse(["generate", *options]).generate
    assert arguments is not None
    told: list[object] = []
    request = request_of(arguments, inspect_model_folder(tmp_path / "model"), tell=told.append)
    assert request.references == (str(tmp_path / "one.png"), str(tmp_path / "two.webp"))
    assert parse(["generate", "--prompt", "a"]).generate is not None


def test_files_that_cannot_be_followed_are_all_named(tmp_path: Path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    good = picture_file(tmp_path / "good.png", 64, 64)
    with pytest.raises(RequestError) as caught:
        reference_paths([str(text), good, str(tmp_path / "gone.png")])
    assert caught.value.code == "request.reference_format"
    assert "text.png" in caught.value.message
    assert "gone.png" in caught.value.message
    assert "good.png" not in caught.value.message


def test_a_name_that_is_empty_is_told():
    with pytest.raises(RequestError, match="--reference is empty"):
        reference_paths([" "])


def test_too_many_files_are_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make_folder(tmp_path / "model", SMALL)
    good = picture_file(tmp_path / "good.png", 64, 64)
    files = ["--reference", good] * (MAX_REFERENCES + 1)
    assert main(["generate", "--prompt", "a", "--model", str(folder), *files]) == 2
    assert "There are 11 reference images" in capsys.readouterr().err
