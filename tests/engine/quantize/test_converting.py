"""Converted files: what is in them, that they open again, and that nothing is left half made."""

import errno
import functools
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from app.core.errors import EngineError, ModelError
from app.core.paths import resource
from app.core.policy import Precision
from app.engine.libraries import diffusers_class
from app.engine.quantize import converting, piece_flow
from app.engine.quantize.converting import Conversion, converted_path, open_converted
from app.engine.quantize.file_layout import PAGE_BYTES
from app.engine.quantize.kept_files import kept_files, remove
from app.engine.quantize.linear import QuantizedLinear
from app.engine.quantize.piece_flow import AHEAD, WriteBehind
from app.engine.quantize.recipe import FORMAT_VERSION, QUANTIZED, Recipe
from app.engine.quantize.skeleton import quantize_network
from app.engine.quantize.source_piece import Piece, pieces_of
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.leaves import ModuleTensors
from app.engine.stored_weights import DamagedFileError, MappedFiles, Stored, stored_tensors

DEMO = resource("models/demo/transformer")
PRECISIONS = sorted(QUANTIZED, key=lambda precision: precision.value)


def skeleton(dtype: torch.dtype = torch.float32) -> Any:
    network = diffusers_class("Flux2Transformer2DModel")
    with torch.device("meta"):
        made = network.from_config(network.load_config(str(DEMO)))
    return torch.nn.Module.to(made, dtype).eval()


def source() -> Stored:
    return stored_tensors([DEMO / "diffusion_pytorch_model.safetensors"])


def conversion(folder: Path, precision: Precision = Precision.INT8, **more: Any) -> Conversion:
    return Conversion(recipe=Recipe(precision=precision), folder=folder, model="Demo", **more)


def fill(network: torch.nn.Module, stored: Stored) -> None:
    files = MappedFiles()
    tensors = {name: files.tensor(tensor) for name, tensor in stored.items()}
    wanted = {name: tensors[name] for name in network.state_dict()}
    network.load_state_dict(wanted, assign=True)


def files_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_file_holds_what_quantizing_in_memory_gives(precision, tmp_path):
    network = skeleton()
    fill(network, open_converted("transformer", network, source(), conversion(tmp_path, precision)))
    other = skeleton()
    fill(other, source())
    quantize_network(other, Recipe(precision=precision))
    wanted = other.state_dict()
    found = network.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[n].view(torch.uint8), wanted[n].view(torch.uint8)) for n in found)


def test_weights_that_stay_take_the_type_that_is_run(tmp_path):
    network = skeleton(torch.bfloat16)
    stored = open_converted("transformer", network, source(), conversion(tmp_path))
    fill(network, stored)
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}
    assert network.dtype is torch.bfloat16
    assert {tensor.dtype for tensor in network.buffers()} == {torch.int8, torch.float32}


def test_each_block_lies_in_the_file_as_it_is_packed(tmp_path):
    network = skeleton()
    stored = open_converted("transformer", network, source(), conversion(tmp_path))
    prefixes = {id(module): name for name, module in network.named_modules()}
    begins: list[int] = []
    for block in streamable_blocks("transformer", network):
        layout = ModuleTensors(block).layout
        places = {
            stored[f"{prefixes[id(block)]}.{span.name}"].offset_bytes - span.offset_bytes
            for span in layout.spans
        }
        assert len(places) == 1
        begins += places
    assert begins == sorted(begins)
    assert all(begin % PAGE_BYTES == 0 for begin in begins)


def test_other_programs_can_read_the_file(tmp_path):
    open_converted("transformer", skeleton(), source(), conversion(tmp_path, Precision.FP8))
    (kept,) = kept_files(tmp_path)
    with safe_open(str(kept.path), framework="pt") as file:
        tensor = file.get_tensor("transformer_blocks.0.attn.to_q.codes")
    assert tensor.dtype is torch.float8_e4m3fn


def test_file_is_made_once_and_opened_the_next_time(tmp_path, monkeypatch):
    first = open_converted("transformer", skeleton(), source(), conversion(tmp_path))

    def never(*_args: object) -> None:
        raise AssertionError("quantized again")

    monkeypatch.setattr(QuantizedLinear, "encode_all", never)
    again = skeleton()
    second = open_converted("transformer", again, source(), conversion(tmp_path))
    assert second == first
    assert any(isinstance(module, QuantizedLinear) for module in again.modules())


def test_a_damaged_file_is_made_again(tmp_path):
    first = open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    (kept,) = kept_files(tmp_path)
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:-1000])
    assert open_converted("transformer", skeleton(), source(), conversion(tmp_path)) == first
    assert kept.path.read_bytes() == whole


def test_a_file_that_holds_something_else_is_made_again(tmp_path):
    first = open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    (kept,) = kept_files(tmp_path)
    whole = kept.path.read_bytes()
    save_file({"proj_out.weight": torch.zeros(2, 2)}, kept.path)
    assert open_converted("transformer", skeleton(), source(), conversion(tmp_path)) == first
    assert kept.path.read_bytes() == whole


@pytest.mark.parametrize("name", [b"headroom_crc32", rb"\"proj_out.weight\""])
def test_a_file_without_checksums_of_all_is_made_again(tmp_path, name):
    first = open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    (kept,) = kept_files(tmp_path)
    whole = kept.path.read_bytes()
    assert whole.count(name) == 1
    kept.path.write_bytes(whole.replace(name, name.replace(b"r", b"R")))
    assert open_converted("transformer", skeleton(), source(), conversion(tmp_path)) == first
    assert kept.path.read_bytes() == whole


def test_a_damaged_file_that_cannot_be_replaced_is_told_as_damaged(tmp_path, monkeypatch):
    open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    (kept,) = kept_files(tmp_path)
    os.truncate(kept.path, kept.size_bytes - 1000)

    def refused(*_paths: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "The file is used by another process")

    monkeypatch.setattr("app.core.atomic.os.replace", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(DamagedFileError):
        open_converted("transformer", skeleton(), source(), conversion(tmp_path))


def test_files_of_an_older_format_make_room(tmp_path):
    open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    (kept,) = kept_files(tmp_path)
    older, newer = tmp_path / "older.safetensors", tmp_path / "newer.safetensors"
    told = f'\\"format\\": \\"{FORMAT_VERSION}\\"'.encode()
    whole = kept.path.read_bytes()
    assert told in whole
    older.write_bytes(whole.replace(told, told.replace(b"2", b"1")))
    newer.write_bytes(whole.replace(told, told.replace(b"2", b"3")))
    open_converted("transformer", skeleton(), source(), conversion(tmp_path, Precision.FP8))
    assert len(kept_files(tmp_path)) == 3
    assert not older.exists()


def test_a_file_that_another_engine_made_meanwhile_will_do(tmp_path, monkeypatch):
    first = open_converted("transformer", skeleton(), source(), conversion(tmp_path / "other"))
    other = tmp_path / "other"

    def taken(_partial: str, path: Path) -> None:
        path.write_bytes((other / path.name).read_bytes())
        raise PermissionError(errno.EACCES, "The file is used by another process")

    monkeypatch.setattr("app.core.atomic.os.replace", taken)
    found = open_converted("transformer", skeleton(), source(), conversion(tmp_path / "ours"))
    assert found.keys() == first.keys()
    assert len(files_in(tmp_path / "ours")) == 1


def test_the_way_to_multiply_is_tried_before_anything_is_loaded(tmp_path, monkeypatch):
    asked: list[tuple[Precision, torch.device, torch.dtype]] = []
    monkeypatch.setattr(converting, "way_for", lambda *what: asked.append(what))
    network = skeleton(torch.bfloat16)
    open_converted("transformer", network, source(), conversion(tmp_path, Precision.FP8))
    assert asked == [(Precision.FP8, torch.device("cpu"), torch.bfloat16)]


def test_another_source_or_recipe_or_type_is_another_file(tmp_path):
    copy = tmp_path / "copy.safetensors"
    data = bytearray((DEMO / "diffusion_pytorch_model.safetensors").read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    asked = conversion(tmp_path)
    paths = {
        converted_path("transformer", skeleton(), source(), asked),
        converted_path("transformer", skeleton(), stored_tensors([copy]), asked),
        converted_path("transformer", skeleton(torch.bfloat16), source(), asked),
        converted_path("text_encoder", skeleton(), source(), asked),
        *(
            converted_path("transformer", skeleton(), source(), conversion(tmp_path, precision))
            for precision in (Precision.FP8, Precision.NF4)
        ),
    }
    assert len(paths) == 6


def test_a_moved_model_is_the_same_source(tmp_path):
    moved = tmp_path / "diffusion_pytorch_model.safetensors"
    moved.write_bytes((DEMO / moved.name).read_bytes())
    asked = conversion(tmp_path)
    assert converted_path("transformer", skeleton(), stored_tensors([moved]), asked) == (
        converted_path("transformer", skeleton(), source(), asked)
    )


def test_progress_goes_up_to_the_end(tmp_path):
    told: list[tuple[int, int]] = []
    asked = conversion(tmp_path, progress=lambda done, total: told.append((done, total)))
    open_converted("transformer", skeleton(), source(), asked)
    (kept,) = kept_files(tmp_path)
    assert told[-1] == (kept.size_bytes, kept.size_bytes)
    assert {total for _, total in told} == {kept.size_bytes}
    assert len(told) > 20


class Alive:
    """How much of what it is shown exists at a time."""

    def __init__(self) -> None:
        self.count = self.bytes = self.most_bytes = self.largest_bytes = 0
        self._lock = threading.Lock()

    def note(self, tensor: torch.Tensor) -> torch.Tensor:
        self._add(tensor.nbytes)
        self.count += 1
        self.largest_bytes = max(self.largest_bytes, tensor.nbytes)
        weakref.finalize(tensor, self._add, -tensor.nbytes)
        return tensor

    def _add(self, size_bytes: int) -> None:
        with self._lock:
            self.bytes += size_bytes
            self.most_bytes = max(self.most_bytes, self.bytes)


class StopError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 30])
def test_cancelling_leaves_nothing_behind(after, tmp_path):
    calls: Iterator[int] = iter(range(1000))

    def check() -> None:
        if next(calls) >= after:
            raise StopError

    with pytest.raises(StopError):
        open_converted("transformer", skeleton(), source(), conversion(tmp_path, check=check))
    assert files_in(tmp_path) == []


def test_a_full_disk_is_told_before_and_meanwhile(tmp_path, monkeypatch):
    usage = converting.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(converting.shutil, "disk_usage", lambda _folder: usage._replace(free=1000))
        with pytest.raises(EngineError, match="the disk has less") as refused:
            open_converted("transformer", skeleton(), source(), conversion(tmp_path))
        assert refused.value.code == "engine.no_disk_space"

    def full(_done: int, _total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EngineError, match="free some space"):
        open_converted("transformer", skeleton(), source(), conversion(tmp_path, progress=full))
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    taken = tmp_path / "converted"
    taken.write_bytes(b"a file where the folder should be")
    with pytest.raises(EngineError, match="cannot be written in") as refused:
        open_converted("transformer", skeleton(), source(), conversion(taken))
    assert str(taken) in str(refused.value)
    assert refused.value.code == "engine.converted_unwritable"


def test_what_a_killed_process_left_is_swept(tmp_path):
    (tmp_path / ".headroom-999999999-ab.part").write_bytes(b"half")
    open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    assert len(files_in(tmp_path)) == 1


def test_memory_on_the_way_is_some_pieces_whatever_the_model(tmp_path, monkeypatch):
    pieces = functools.partial(pieces_of, at_once=4096)
    monkeypatch.setattr(converting, "pieces_of", pieces)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    alive = Alive()
    read, encode = Piece.read, QuantizedLinear.encode_all
    monkeypatch.setattr(Piece, "read", lambda piece: alive.note(read(piece)))

    def encoded(self: Any, weight: torch.Tensor, *more: Any) -> Any:
        codes, scales = encode(self, weight, *more)
        return alive.note(codes), alive.note(scales)

    monkeypatch.setattr(QuantizedLinear, "encode_all", encoded)
    open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    assert alive.count > 500
    assert alive.largest_bytes <= 4096 * 4
    # Read ahead, at work and waiting to be written, each with those at hand.
    assert alive.most_bytes <= (2 * AHEAD + 2 * 2 + 6) * 4096 * 4


def test_a_source_that_ends_early_is_told_as_the_models_fault(tmp_path, monkeypatch):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((DEMO / "diffusion_pytorch_model.safetensors").read_bytes())
    stored = stored_tensors([copy])
    key = converting.source_key({copy})
    os.truncate(copy, copy.stat().st_size - 1000)
    monkeypatch.setattr(converting, "source_key", lambda _files: key)
    folder = tmp_path / "converted"
    with pytest.raises(ModelError, match="has become shorter"):
        open_converted("transformer", skeleton(), stored, conversion(folder))
    assert files_in(folder) == []


def test_what_cannot_be_written_ends_the_conversion(tmp_path, monkeypatch):
    def full(_self: object, _offset_bytes: int, _tensor: torch.Tensor) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(WriteBehind, "_write", full)
    with pytest.raises(EngineError, match="free some space"):
        open_converted("transformer", skeleton(), source(), conversion(tmp_path))
    assert files_in(tmp_path) == []


def test_pieces_are_sent_to_the_disk_while_more_come(tmp_path, monkeypatch):
    plain = open_converted("transformer", skeleton(), source(), conversion(tmp_path / "plain"))
    sent: list[int] = []
    monkeypatch.setattr(piece_flow, "FLUSH_BYTES", 100_000)
    monkeypatch.setattr(piece_flow, "_flush_file", sent.append)
    monkeypatch.setattr(converting, "pieces_of", functools.partial(pieces_of, at_once=4096))
    again = open_converted("transformer", skeleton(), source(), conversion(tmp_path / "again"))
    assert len(sent) >= 10
    first, second = ({t.path for t in stored.values()}.pop() for stored in (plain, again))
    assert first.read_bytes() == second.read_bytes()


def test_kept_files_are_listed_and_removed(tmp_path):
    for precision in PRECISIONS:
        open_converted("transformer", skeleton(), source(), conversion(tmp_path, precision))
    (tmp_path / "other.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    found = kept_files(tmp_path)
    assert sorted(file.precision.value for file in found) == ["fp8", "int8", "nf4"]
    assert {(file.component, file.model) for file in found} == {("transformer", "Demo")}
    assert all(file.size_bytes == file.path.stat().st_size for file in found)
    remove(found[0])
    remove(found[0])
    assert [file.path for file in kept_files(tmp_path)] == [file.path for file in found[1:]]
    assert kept_files(tmp_path / "missing") == []


def test_last_used_is_listed_first(tmp_path):
    for precision in (Precision.FP8, Precision.INT8):
        open_converted("transformer", skeleton(), source(), conversion(tmp_path, precision))
    for file in kept_files(tmp_path):
        os.utime(file.path, (1000, 1000))
    open_converted("transformer", skeleton(), source(), conversion(tmp_path, Precision.FP8))
    assert kept_files(tmp_path)[0].precision is Precision.FP8
    assert replace(kept_files(tmp_path)[1], used_s=0).precision is Precision.INT8
