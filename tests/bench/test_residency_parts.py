"""The bench's parts beside the steps: a new prompt and a new conversion, with small networks."""

from pathlib import Path

import pytest
import torch

from app.core.policy import Precision
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.quantize.converting import Conversion, open_converted
from app.engine.quantize.recipe import Recipe
from app.engine.stored_weights import MappedFiles, stored_tensors
from bench.residency_parts import convert, encode
from bench.residency_parts.cases import SMALL
from bench.residency_parts.disk import both_seconds, forget, read_seconds, write_seconds
from bench.residency_parts.meters import digest_of
from bench.residency_parts.networks import NAME, RandomWeights, meta_network, whole_network
from bench.residency_parts.page_more import convert_page, encode_page

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_number_of_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_streamed_prompt_is_that_of_the_whole_encoder() -> None:
    figures = encode.measure_encode(SMALL, "cpu", layers=3, tries=1)
    assert figures["layers"] == 3
    assert figures["weights_bytes"] <= figures["copied_bytes"] < 1.5 * figures["weights_bytes"]
    assert figures["over_floor"] == figures["encode_s"] / figures["floor_s"]

    whole = encode.build_encoder(SMALL, 3)
    weights = RandomWeights("bf16", CPU)
    for index, layer in enumerate(encode.layers_of(whole)):
        weights.fill(layer, f"model.layers.{index}.")
    encode.restore_computed_buffers(whole)
    whole.table = encode.made_up_table(whole)
    tokens = encode.made_up_tokens(whole)
    assert tokens.shape == (1, MAX_PROMPT_TOKENS)
    with torch.no_grad():
        hidden = whole(tokens, torch.ones_like(tokens)).hidden_states[-1]
    assert figures["digest"] == digest_of(hidden)
    assert f"| {SMALL} | cpu | 3 |" in encode_page([figures])


def test_a_checkpoint_has_the_networks_tensors(tmp_path: Path) -> None:
    path = tmp_path / "source.safetensors"
    convert.write_checkpoint(SMALL, path)
    stored = stored_tensors([path])
    files = MappedFiles()
    wanted = dict(whole_network(SMALL, RandomWeights("bf16", CPU)).named_parameters())
    assert wanted.keys() <= stored.keys()
    assert all(torch.equal(files.tensor(stored[name]), wanted[name]) for name in wanted)
    conversion = Conversion(recipe=Recipe(precision=Precision.INT8), folder=tmp_path / "made")
    assert open_converted(NAME, meta_network(SMALL), stored, conversion)


def test_the_disk_is_read_and_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(1000))
    assert forget(source) in {True, False}
    assert read_seconds(source) > 0
    assert write_seconds(target, 1 << 20) > 0
    assert both_seconds(source, target, 1 << 20) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_model_that_the_disk_does_not_hold_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = convert.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _folder: usage._replace(free=10**9))
    (row,) = convert.measure_convert("klein-9b", ["fp8"], "cpu", tmp_path)
    assert "GB of disk are needed" in row["note"]
    assert list(tmp_path.iterdir()) == []


def test_others_work_is_told_on_the_page() -> None:
    row = {
        **dict.fromkeys(("model", "precision", "device"), "x"),
        **dict.fromkeys(("read_s", "write_s", "disk_s", "convert_cpu_s", "reopen_s"), 1.0),
        **dict.fromkeys(("source_bytes", "converted_bytes", "largest_block_bytes"), 10**9),
        "convert_s": 10.0,
        "convert_ram_bytes": 5 * 10**8,
        "load_s": 2.0,
        "load_ram_bytes": 3 * 10**9,
        "kept_bytes": 2 * 10**9,
        "others_cpu_s": 1.0,
    }
    assert "| 0.50 | 2.0 | 1.00 |" in convert_page([row])
    assert "Other programs" not in convert_page([row])
    assert "took 12 s" in convert_page([{**row, "others_cpu_s": 12.0}])
