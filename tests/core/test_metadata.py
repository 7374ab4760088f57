import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.metadata import (
    ImageRecord,
    ReferenceRecord,
    parameters_text,
    record_from_json,
    record_to_json,
)
from app.core.request import MAX_SEED, GenerationRequest

RECORD = ImageRecord(
    app_version="0.1.0",
    request=GenerationRequest(prompt="a red circle", seed=5, images=3, guidance=4.0),
    model_label="Demo: draws simple shapes",
    model_name="demo",
    index=2,
    seed=7,
    seconds={"load": 1.25, "denoise": 3.5},
    peak_device_bytes=None,
    peak_host_bytes=12 * 1024**3,
    created="2026-11-21T14:30:05+01:00",
)


def test_record_comes_back_whole():
    assert record_from_json(record_to_json(RECORD)) == RECORD


@pytest.mark.parametrize("prompt", ["赤い円 в углу", "🔴", 'quotes " and \\ and\nlines', "\0 zero"])
def test_any_prompt_survives(prompt: str):
    record = replace(RECORD, request=replace(RECORD.request, prompt=prompt))
    assert record_from_json(record_to_json(record)) == record


def test_64_bit_seeds_survive():
    request = replace(RECORD.request, seed=MAX_SEED)
    record = replace(RECORD, request=request, seed=MAX_SEED - 1)
    assert record_from_json(record_to_json(record)) == record


def test_half_characters_become_question_marks():
    request = replace(RECORD.request, prompt="a \ud800", model="/m\udcff")
    record = replace(RECORD, request=request, model_label="m\udcff")
    back = record_from_json(record_to_json(record))
    assert back is not None
    assert (back.request.prompt, back.request.model, back.model_label) == ("a ?", "/m?", "m?")
    assert parameters_text(record).startswith("a ?\n")


def test_keys_of_a_newer_version_are_ignored():
    values = json.loads(record_to_json(RECORD))
    values["loras"] = [1]
    values["schema_version"] = 99
    values["request"]["upscale"] = {"by": 2}
    assert record_from_json(json.dumps(values)) == replace(RECORD, schema_version=99)


def test_a_value_that_makes_no_sense_costs_only_itself():
    values = json.loads(record_to_json(replace(RECORD, precisions={"transformer": "fp8"})))
    values["memory_mode"] = 5
    values["asked_tile_px"] = "large"
    values["phases"] = [{"phase": "dreaming"}]
    back = record_from_json(json.dumps(values))
    assert back == replace(RECORD, precisions={"transformer": "fp8"})
    values["request"]["steps"] = "many"
    assert record_from_json(json.dumps(values)) is None
    assert record_from_json('{"request": null, "seed": "x"}') is None
    assert record_from_json('{"seed": "x"}') is None


def test_only_the_request_is_needed():
    record = record_from_json('{"request": {"prompt": "x"}}')
    assert record == ImageRecord(request=GenerationRequest(prompt="x"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"request": {}}',
        '{"request": {"prompt": 5}}',
        '{"request": {"prompt": "x", "width_px": "wide"}}',
        '{"request": {"prompt": "x", "width_px": 1000000000000000000000000}}',
        '{"request": {"prompt": "x", "width_px": 17}}',
        '{"request": {"prompt": "x", "seed": -1}}',
        '{"request": {"prompt": ""}}',
        '{"request": {"prompt": "x", "guidance": 1e999}}',
        '{"request": {"prompt": "x", "guidance": NaN}}',
        "[" * 100_000,
        b"\xff\xfe",
        b'{"request": {"prompt": "\xff"}}',
    ],
)
def test_what_is_no_record_of_a_possible_request_is_none(text: str | bytes):
    assert record_from_json(text) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes):
    assert record_from_json(data) is None


def test_references_are_kept_without_whose_computer_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    paths = (str(tmp_path / "pictures" / "猫.png"), str(tmp_path.parent / "elsewhere.jpg"))
    references = tuple(ReferenceRecord.of(path, "0a") for path in paths)
    assert [one.path for one in references] == ["~/pictures/猫.png", paths[1]]
    request = replace(RECORD.request, references=paths)
    text = record_to_json(replace(RECORD, request=request, references=references))
    assert str(tmp_path / "pictures") not in text
    found = record_from_json(text)
    assert found is not None
    assert found.request == RECORD.request
    assert found.references == references
    assert tuple(one.here() for one in found.references) == paths
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "other")
    assert found.references[0].here() == str(tmp_path / "other" / "pictures" / "猫.png")


def test_records_from_before_there_were_references_are_read():
    record = record_from_json('{"request": {"prompt": "x"}}')
    assert record is not None
    assert record.references == record.request.references == ()


def test_parameters_text_is_what_such_readers_expect():
    assert parameters_text(RECORD) == (
        "a red circle\n"
        "Steps: 8, Sampler: Euler, CFG scale: 4.0, Seed: 7, Size: 128x128, "
        'Model: "Demo: draws simple shapes", Version: Headroom 0.1.0'
    )


def test_parameters_text_is_split_again_by_the_usual_expression():
    record = replace(RECORD, model_label='My, "own": model\nhere')
    line = parameters_text(record).splitlines()[-1]
    # The expression of AUTOMATIC1111's own reader.
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line)
    values = {name: json.loads(value) if value[:1] == '"' else value for name, value in pairs}
    assert values["Model"] == record.model_label
    assert values["Seed"] == "7"
    assert values["Version"] == "Headroom 0.1.0"


def test_parameters_text_holds_no_zero_byte_and_no_empty_value():
    record = ImageRecord(request=GenerationRequest(prompt="a\0b"))
    text = parameters_text(record)
    assert text.startswith("ab\n")
    assert "Model:" not in text
    assert text.endswith("Version: Headroom")
