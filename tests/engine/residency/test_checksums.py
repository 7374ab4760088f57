"""What is read of files with checksums is compared with them, once."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.core.errors import ModelError
from app.engine.residency import block_source, mapped_checks
from app.engine.residency.block_source import BlockSource
from app.engine.residency.host_store import HostStore
from app.engine.residency.layout import BlockLayout, lay_out
from app.engine.residency.mapped_checks import MappedChecks, check_mapped
from app.engine.residency.readers import FileReader
from app.engine.residency.stored_block import StoredBlock
from app.engine.stored_weights import DamagedFileError, MappedFiles, StoredTensor, stored_tensors

STRETCH = 1000
TENSORS = {f"t{number}": torch.randn(33, 20 + number) for number in range(5)}
# Small ones, which are read together.
TENSORS |= {f"u{number}": torch.randn(128) for number in range(3)}


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_source, "CHECK_BYTES", STRETCH)
    monkeypatch.setattr(block_source, "PIECE_BYTES", 2 * STRETCH)
    monkeypatch.setattr(mapped_checks, "CHECK_BYTES", STRETCH)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    return path


def with_checks(file: Path) -> dict[str, StoredTensor]:
    content = file.read_bytes()
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored_tensors([file]).items():
        own = content[tensor.offset_bytes : tensor.offset_bytes + tensor.nbytes]
        checks = tuple(
            zlib.crc32(own[begin : begin + STRETCH]) for begin in range(0, len(own), STRETCH)
        )
        found[name] = replace(tensor, checks=checks)
    return found


def flip(file: Path, offset_bytes: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset_bytes] ^= 1
    file.write_bytes(content)


def layout_of(dtype: torch.dtype = torch.float32) -> BlockLayout:
    return lay_out((name, tensor.to(dtype)) for name, tensor in TENSORS.items())


def places(stored: dict[str, StoredTensor]) -> Iterator[int]:
    """The first byte of each tensor, its last, and those around the border of two stretches."""
    for tensor in stored.values():
        for offset in (0, STRETCH - 1, STRETCH, tensor.nbytes - 1):
            if offset < tensor.nbytes:
                yield tensor.offset_bytes + offset


def test_any_changed_bit_is_seen_by_each_way_to_read(file: Path) -> None:
    stored = with_checks(file)
    out = torch.empty(layout_of().size_bytes, dtype=torch.uint8)
    for place in places(stored):
        BlockSource(layout_of(), stored).read_into(out)
        StoredBlock(BlockSource(layout_of(), stored), pinning=None).keep()
        check_mapped(stored.values(), MappedFiles(), lambda: None)
        flip(file, place)
        with pytest.raises(DamagedFileError) as seen:
            BlockSource(layout_of(), stored).read_into(out)
        assert seen.value.path == file
        block = StoredBlock(BlockSource(layout_of(), stored), pinning=None)
        with pytest.raises(DamagedFileError):
            block.keep()
        assert block.packed() is None
        with pytest.raises(DamagedFileError):
            check_mapped(stored.values(), MappedFiles(), lambda: None)
        flip(file, place)


def test_blocks_that_are_read_for_each_pass_are_checked_the_first_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    plain = block_source.checksum

    def noted(content: memoryview) -> int:
        checked.append(len(content))
        return plain(content)

    monkeypatch.setattr(block_source, "checksum", noted)
    stored = with_checks(file)
    block = StoredBlock(BlockSource(layout_of(), stored), pinning=None)
    reader = FileReader(lambda size: torch.empty(size, dtype=torch.uint8), linger_s=0.0)
    for _ in range(3):
        reading = reader.start(block)
        assert reading is not None
        reading.wait()
        reading.release()
    assert sum(checked) == sum(tensor.nbytes for tensor in stored.values())


def test_a_reader_tells_what_is_damaged_where_the_block_is_waited_for(file: Path) -> None:
    stored = with_checks(file)
    flip(file, stored["t3"].offset_bytes)
    block = StoredBlock(BlockSource(layout_of(), stored), pinning=None)
    reader = FileReader(lambda size: torch.empty(size, dtype=torch.uint8), linger_s=0.0)
    reading = reader.start(block)
    assert reading is not None
    with pytest.raises(DamagedFileError):
        reading.wait()
    reading.release()


def test_what_is_converted_on_the_way_has_other_bytes_and_is_not_compared(file: Path) -> None:
    out = torch.empty(layout_of(torch.bfloat16).size_bytes, dtype=torch.uint8)
    BlockSource(layout_of(torch.bfloat16), with_checks(file)).read_into(out)


def test_mapped_weights_that_ram_cannot_hold_are_not_read_for_it(file: Path) -> None:
    stored = with_checks(file)
    flip(file, stored["t3"].offset_bytes)
    size_bytes = sum(tensor.nbytes for tensor in stored.values())
    check_mapped(stored.values(), MappedFiles(), lambda: None, room_bytes=lambda: size_bytes - 1)
    with pytest.raises(DamagedFileError):
        check_mapped(stored.values(), MappedFiles(), lambda: None, room_bytes=lambda: size_bytes)


def test_mapped_weights_are_compared_once(file: Path) -> None:
    stored = with_checks(file)
    mapped = MappedChecks(stored.values(), MappedFiles())
    mapped.compare(lambda: None)
    file.unlink()
    mapped.compare(lambda: None)


def test_what_is_compared_is_what_is_used(file: Path) -> None:
    """Another engine may see the damage first, and put a sound file there."""
    stored, sound = with_checks(file), file.read_bytes()
    flip(file, stored["t3"].offset_bytes)
    with torch.device("meta"):
        network = torch.nn.Module()
        network.transformer_blocks = network.single_transformer_blocks = torch.nn.ModuleList()
        for name, tensor in TENSORS.items():
            network.register_buffer(name, torch.empty_like(tensor, device="meta"))
    host = HostStore(in_place=True).open("transformer", network, stored)
    file.unlink()
    file.write_bytes(sound)
    assert host.mapped is not None
    with pytest.raises(DamagedFileError):
        host.mapped.compare(lambda: None)
    opened = HostStore(in_place=True).open("transformer", network, stored)
    assert opened.mapped is not None
    opened.mapped.compare(lambda: None)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("lose", [Path.unlink, cut, empty], ids=["gone", "shorter", "empty"])
def test_what_was_made_here_is_lost_and_not_to_be_downloaded_again(
    file: Path, lose: Callable[[Path], None]
) -> None:
    stored = with_checks(file)
    plain = BlockSource(layout_of(), stored_tensors([file]))
    source = BlockSource(layout_of(), stored)
    lose(file)
    out = torch.empty(layout_of().size_bytes, dtype=torch.uint8)
    with pytest.raises(DamagedFileError):
        source.read_into(out)
    with pytest.raises(DamagedFileError):
        check_mapped(stored.values(), MappedFiles(), lambda: None)
    last = max(stored.values(), key=lambda one: one.offset_bytes)
    with pytest.raises(DamagedFileError):
        MappedFiles().tensor(last)
    with pytest.raises(ModelError, match=r"cannot be read|has become shorter") as told:
        plain.read_into(out)
    assert not isinstance(told.value, DamagedFileError)


class StopError(Exception):
    pass


def test_looks_come_between_stretches(file: Path) -> None:
    calls = iter(range(100))

    def look() -> None:
        if next(calls) == 5:
            raise StopError

    with pytest.raises(StopError):
        check_mapped(with_checks(file).values(), MappedFiles(), look)
