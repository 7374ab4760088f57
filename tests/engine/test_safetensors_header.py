import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import ModelError
from app.engine.safetensors_header import MAX_HEADER_BYTES, TensorEntry, read_header
from tests.fakes.model_folder import write_raw_safetensors, write_safetensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def refused(file: Path, code: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_header(file)
    assert caught.value.code == code
    assert str(file) in caught.value.message
    return caught.value


def entry(dtype: str, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_names_types_and_shapes(file: Path):
    write_safetensors(file, {"a": (2, 3), "scalar": (), "empty": (0, 4)}, dtype="F32")
    data = file.stat().st_size - 28
    assert read_header(file) == {
        "a": TensorEntry(dtype="float32", shape=(2, 3), size_bytes=24, offset_bytes=data),
        "scalar": TensorEntry(dtype="float32", shape=(), size_bytes=4, offset_bytes=data + 24),
        "empty": TensorEntry(dtype="float32", shape=(0, 4), size_bytes=0, offset_bytes=data + 28),
    }


def test_reads_what_the_library_writes(file: Path):
    numpy = pytest.importorskip("numpy")
    library: Any = pytest.importorskip("safetensors.numpy")
    arrays = {"b": numpy.zeros((3, 5), "float16"), "a": numpy.zeros(7, "int64")}
    library.save_file(arrays, str(file), metadata={"format": "pt"})
    tensors = read_header(file)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("int64", (7,)),
        "b": ("float16", (3, 5)),
    }


def test_tensors_may_stand_in_any_order(file: Path):
    header = {"second": entry("U8", [4], 2, 6), "first": entry("U8", [2], 0, 2)}
    write_raw_safetensors(file, json.dumps(header).encode(), data_bytes=6)
    assert list(read_header(file)) == ["first", "second"]


@pytest.mark.parametrize("missing_bytes", [1, 11, 12])
def test_missing_data(file: Path, missing_bytes: int):
    write_safetensors(file, {"a": (6,)}, missing_bytes=missing_bytes)
    assert "Download it again" in refused(file, "model.truncated").message


@pytest.mark.parametrize("length", [0, 5, 8, 20])
def test_file_that_ends_in_its_header(file: Path, length: int):
    write_safetensors(file, {"a": (6,)})
    file.write_bytes(file.read_bytes()[:length])
    assert "inside its header" in refused(file, "model.truncated").message


def test_git_lfs_pointer_is_named(file: Path):
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert "git lfs pull" in refused(file, "model.lfs_pointer").message


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_huge_header_length_is_not_believed(file: Path, length: int):
    file.write_bytes(struct.pack("<Q", length) + b"{}")
    refused(file, "model.invalid_weights")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b"[]",
        b"{broken",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"__metadata__": {"format": "pt"}}',
        *(
            json.dumps(values).encode()
            for values in (
                {"a": 5},
                {"a": {"dtype": "F32"}},
                {"a": entry("F99", [1], 0, 4)},
                {"a": entry("F32", [1], 0, 8)},
                {"a": entry("F32", [-1, -1], 0, 4)},
                {"a": entry("F32", [1], -4, 0)},
                {"a": entry("F32", [1], 4, 8)},
                {"a": entry("F32", [1], 8, 4)},
                {"a": entry("F32", [10**30], 0, 4)},
                {"a": entry("F32", ["1"], 0, 4)},
                {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)},
                {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)},
                {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 5, 9)},
            )
        ),
    ],
)
def test_header_that_makes_no_sense(file: Path, header: bytes):
    write_raw_safetensors(file, header, data_bytes=64)
    assert "not a valid safetensors file" in refused(file, "model.invalid_weights").message


def test_folder_in_place_of_a_file(file: Path):
    file.mkdir()
    refused(file, "model.unreadable")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(header=st.binary(max_size=200), tail=st.binary(max_size=20))
def test_random_headers_are_refused(file: Path, header: bytes, tail: bytes):
    file.write_bytes(struct.pack("<Q", len(header)) + header + tail)
    with pytest.raises(ModelError):
        read_header(file)
