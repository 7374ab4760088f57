"""Blocks are read from files into packed buffers: the right numbers, in few reads."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from app.core.errors import ModelError
from app.engine.residency import block_source
from app.engine.residency.block_source import BlockSource
from app.engine.residency.layout import BlockLayout, lay_out
from app.engine.stored_weights import MappedFiles, stored_tensors

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.uint8)


def make(names: list[str], *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(3 + index, 5, generator=generator) for index, name in enumerate(names)
    }


def packed(source: BlockSource) -> torch.Tensor:
    out = torch.full((source.layout.size_bytes,), 255, dtype=torch.uint8)
    source.read_into(out)
    return out


def check_equal(layout: BlockLayout, out: torch.Tensor, expected: dict[str, torch.Tensor]) -> None:
    for span in layout.spans:
        assert torch.equal(span.view_of(out), expected[span.name]), span.name


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_types_and_piece_size_give_the_same_numbers(
    data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = data.draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 90)), min_size=1, max_size=6)
    )
    stored_as = data.draw(
        st.lists(st.sampled_from(DTYPES), min_size=len(shapes), max_size=len(shapes))
    )
    wanted_as = data.draw(
        st.lists(st.sampled_from(DTYPES), min_size=len(shapes), max_size=len(shapes))
    )
    order = data.draw(st.permutations(range(len(shapes))))
    files = data.draw(st.integers(1, 2))
    monkeypatch.setattr(block_source, "PIECE_BYTES", data.draw(st.sampled_from([16, 512, 1 << 20])))
    tensors = {
        f"t{index}": (torch.arange(shape[0] * shape[1]) % 100).view(shape).to(dtype)
        for index, (shape, dtype) in enumerate(zip(shapes, stored_as, strict=True))
    }
    for number in range(files):
        part = {f"t{i}": tensors[f"t{i}"] for i in order if i % files == number}
        save_file(part or {"other": torch.zeros(1)}, tmp_path / f"{number}.safetensors")
    stored = stored_tensors(tmp_path / f"{number}.safetensors" for number in range(files))
    expected = {
        f"t{index}": tensors[f"t{index}"].to(dtype) for index, dtype in enumerate(wanted_as)
    }
    layout = lay_out(expected.items())

    check_equal(layout, packed(BlockSource(layout, stored)), expected)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    reads: list[int] = []
    real = block_source._read_fully

    def counted(file: Any, piece: block_source.Piece, out: memoryview) -> None:
        reads.append(len(out))
        real(file, piece, out)

    monkeypatch.setattr(block_source, "_read_fully", counted)
    return reads


def test_block_that_lies_in_the_file_as_it_is_packed_is_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As converted files have it: with names for what is between tensors."""
    tensors = make(["a", "b", "c"])
    layout = lay_out(tensors.items())
    in_file: dict[str, torch.Tensor] = {}
    for index, span in enumerate(layout.spans):
        in_file[f"{index}"] = tensors[span.name].view(-1).view(torch.uint8)
        gap = -span.nbytes % 512
        in_file[f"{index}gap"] = torch.zeros(gap, dtype=torch.uint8)
    save_file(in_file, tmp_path / "a.safetensors")
    found = stored_tensors([tmp_path / "a.safetensors"])
    stored = {
        span.name: replace(found[f"{index}"], dtype=torch.float32, shape=span.shape)
        for index, span in enumerate(layout.spans)
    }
    assert found["1"].offset_bytes - found["0"].offset_bytes == 512
    reads = count_reads(monkeypatch)

    check_equal(layout, packed(BlockSource(layout, stored)), tensors)
    assert len(reads) == 1


def test_gap_in_which_another_tensor_belongs_is_not_read_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file a stranger lies where, in the buffer, a tensor of another file belongs."""
    wanted = {
        name: torch.full((512,), number, dtype=torch.uint8)
        for name, number in (("a", 1), ("b", 2), ("c", 3))
    }
    first = {
        "a": wanted["a"],
        "b-stranger": torch.full((512,), 9, dtype=torch.uint8),
        "c": wanted["c"],
    }
    save_file(first, tmp_path / "2.safetensors")
    save_file({"b": wanted["b"]}, tmp_path / "1.safetensors")
    stored = stored_tensors([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert stored["c"].offset_bytes - stored["a"].offset_bytes == 1024
    layout = lay_out(wanted.items())
    reads = count_reads(monkeypatch)

    check_equal(layout, packed(BlockSource(layout, stored)), wanted)
    assert reads == [512, 512, 512]


def test_what_no_file_has_is_copied(tmp_path: Path) -> None:
    tensors = make(["a", "computed"])
    save_file({"a": tensors["a"]}, tmp_path / "a.safetensors")
    layout = lay_out(tensors.items())
    source = BlockSource(
        layout, stored_tensors([tmp_path / "a.safetensors"]), {"computed": tensors["computed"]}
    )
    check_equal(layout, packed(source), tensors)


def test_parts_stop_where_nobody_wants_them(tmp_path: Path) -> None:
    tensors = make(["a", "computed"])
    save_file({"a": tensors["a"]}, tmp_path / "a.safetensors")
    source = BlockSource(
        lay_out(tensors.items()),
        stored_tensors([tmp_path / "a.safetensors"]),
        {"computed": tensors["computed"]},
    )
    out = torch.full((source.layout.size_bytes,), 255, dtype=torch.uint8)
    for part in source.parts:
        part(out, lambda: False)
    assert bool((out == 255).all())


@pytest.mark.parametrize("converts", [False, True])
def test_file_that_became_shorter_is_an_error(tmp_path: Path, converts: bool) -> None:
    file = tmp_path / "a.safetensors"
    tensors = {"a": torch.zeros(1000)}
    save_file(tensors, file)
    wanted = {"a": torch.zeros(1000, dtype=torch.bfloat16 if converts else torch.float32)}
    source = BlockSource(lay_out(wanted.items()), stored_tensors([file]))
    with file.open("r+b") as changed:
        changed.truncate(2000)
    with pytest.raises(ModelError, match="has become shorter") as caught:
        packed(source)
    assert caught.value.code == "model.truncated"
    file.unlink()
    with pytest.raises(ModelError, match="cannot be read") as caught:
        packed(source)
    assert str(file) in caught.value.message


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda stored: stored.pop("a"), KeyError),
        (lambda stored: stored.update(a=stored["b"]), ValueError),
    ],
)
def test_what_is_not_stored_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], error: type[Exception]
) -> None:
    tensors = make(["a", "b"])
    save_file(tensors, tmp_path / "a.safetensors")
    stored = stored_tensors([tmp_path / "a.safetensors"])
    change(stored)
    with pytest.raises(error):
        BlockSource(lay_out(tensors.items()), stored)


def test_mapped_tensors_are_the_files_and_survive_it(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    tensors = {"b": torch.arange(3, dtype=torch.uint8), "a": torch.randn(7, 3)}
    save_file(tensors, file)
    stored = stored_tensors([file])
    files = MappedFiles()
    found = {name: files.tensor(entry) for name, entry in stored.items()}
    del files
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].untyped_storage().nbytes() == file.stat().st_size


def test_tensor_at_an_odd_place_is_copied(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    header = {
        "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    text = json.dumps(header).encode()
    numbers = torch.tensor([1.5, -2.0])
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\1\2\3" + numbers.numpy().tobytes())
    stored = stored_tensors([file])["a"]
    assert stored.offset_bytes % 4
    assert torch.equal(MappedFiles().tensor(stored), numbers)
    layout = lay_out([("a", numbers)])
    check_equal(layout, packed(BlockSource(layout, {"a": stored})), {"a": numbers})
