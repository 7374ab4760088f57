"""Reading ahead: buffers come back, order and errors are kept, threads end by themselves."""

import contextlib
import threading
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.core.errors import ModelError
from app.engine.residency import block_source, stored_block
from app.engine.residency.block_source import BlockSource
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import RamBlock
from app.engine.residency.layout import BlockLayout, lay_out
from app.engine.residency.readers import FileReader
from app.engine.residency.stored_block import StoredBlock, paged_buffer
from app.engine.stored_weights import stored_tensors

WAIT_S = 20


class GatedBlock:
    """A block that is read when the test says so."""

    tier = HostTier.FILE

    def __init__(self, value: int, size_bytes: int = 512) -> None:
        self.layout = BlockLayout(spans=(), size_bytes=size_bytes)
        self.value = value
        self.began = threading.Event()
        self.gate = threading.Event()
        self.error: Exception | None = None

    def packed(self) -> None:
        return None

    def read_into(self, out: torch.Tensor) -> None:
        self.began.set()
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        out.fill_(self.value)

    def open(self) -> "GatedBlock":
        self.gate.set()
        return self


class Counted:
    """Hands out buffers and counts them."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.freed: list[int] = []

    def allocate(self, size_bytes: int) -> torch.Tensor:
        self.sizes.append(size_bytes)
        return paged_buffer(size_bytes)

    def free(self, buffer: torch.Tensor) -> None:
        self.freed.append(buffer.numel())


def reader(counted: Counted, *, threads: int = 2, buffers: int = 2) -> FileReader:
    return FileReader(
        counted.allocate, free=counted.free, threads=threads, buffers=buffers, linger_s=0.01
    )


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "weights-reader"]


def test_blocks_are_read_ahead_and_buffers_used_again() -> None:
    counted = Counted()
    files = reader(counted)
    first = files.start(GatedBlock(1).open())
    second = files.start(GatedBlock(2).open())
    assert first is not None
    assert second is not None
    assert files.start(GatedBlock(3).open()) is None, "both buffers are taken"
    assert bool((first.wait() == 1).all())
    assert bool((second.wait() == 2).all())
    assert first.is_done()

    address = first.wait().data_ptr()
    first.release()
    third = files.start(GatedBlock(3).open())
    assert third is not None
    assert third.wait().data_ptr() == address
    assert bool((third.wait() == 3).all())
    assert bool((second.wait() == 2).all())
    assert counted.sizes == [512, 512]


def test_a_block_that_is_due_has_a_buffer_when_all_are_taken() -> None:
    counted = Counted()
    files = reader(counted, buffers=1)
    first = files.start(GatedBlock(1).open())
    due = files.start(GatedBlock(2).open(), due=True)
    assert first is not None
    assert due is not None
    assert bool((due.wait() == 2).all())
    assert bool((first.wait() == 1).all())
    assert files.start(GatedBlock(3).open()) is None
    due.release()
    again = files.start(GatedBlock(3).open(), due=True)
    assert again is not None
    assert bool((again.wait() == 3).all())
    assert counted.sizes == [512, 512], "the buffer stays, and is used again"


def test_a_reading_that_runs_is_not_done_and_does_not_wait() -> None:
    files = reader(Counted())
    block = GatedBlock(1)
    reading = files.start(block)
    assert reading is not None
    assert block.began.wait(WAIT_S)
    assert not reading.is_done()
    block.open()
    assert reading.wait().numel() == 512


def test_buffer_of_an_unwanted_reading_comes_back_when_nothing_writes_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted()
    files = reader(counted, buffers=1)
    give_back, came_back = files._give_back, threading.Event()

    def told(buffer: torch.Tensor) -> None:
        give_back(buffer)
        came_back.set()

    monkeypatch.setattr(files, "_give_back", told)
    block = GatedBlock(1)
    reading = files.start(block)
    assert reading is not None
    assert block.began.wait(WAIT_S)
    reading.release()
    reading.release()
    assert files.start(GatedBlock(2).open()) is None, "it is still being written"
    block.open()
    assert came_back.wait(WAIT_S)
    following = files.start(GatedBlock(2).open())
    assert following is not None
    assert files.start(GatedBlock(3).open()) is None, "it came back once"
    assert bool((following.wait() == 2).all())
    assert counted.sizes == [512]


def test_error_is_told_to_whoever_waits_and_the_buffer_is_free_again() -> None:
    files = reader(Counted(), buffers=1)
    block = GatedBlock(1).open()
    block.error = OSError("the disk is gone")
    reading = files.start(block)
    assert reading is not None
    with pytest.raises(OSError, match="the disk is gone"):
        reading.wait()
    assert reading.is_done()
    reading.release()
    following = files.start(GatedBlock(2).open())
    assert following is not None
    assert bool((following.wait() == 2).all())


def test_larger_block_gets_a_larger_buffer_in_the_place_of_one() -> None:
    counted = Counted()
    files = reader(counted, buffers=1)
    small = files.start(GatedBlock(1, 512).open())
    assert small is not None
    small.wait()
    small.release()
    large = files.start(GatedBlock(2, 1024).open())
    assert large is not None
    assert large.wait().numel() == 1024
    large.release()
    again = files.start(GatedBlock(3, 512).open())
    assert again is not None
    assert again.wait().numel() == 512
    assert counted.sizes == [512, 1024]
    assert counted.freed == [512]
    again.release()
    files.let_go()
    assert counted.freed == [512, 1024]
    assert files.all_bytes == 0


def test_threads_end_when_there_is_nothing_to_read_and_come_again() -> None:
    for thread in reader_threads():
        thread.join(WAIT_S)
    files = reader(Counted(), threads=2, buffers=4)
    blocks = [GatedBlock(index) for index in range(4)]
    readings = [files.start(block) for block in blocks]
    threads = reader_threads()
    assert len(threads) == 2, "never more than that"
    for block in blocks:
        block.open()
    for index, reading in enumerate(readings):
        assert reading is not None
        assert bool((reading.wait() == index).all())
        reading.release()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    again = files.start(GatedBlock(9).open())
    assert again is not None
    assert bool((again.wait() == 9).all())


@pytest.mark.parametrize("threads", [1, 3])
def test_stored_blocks_are_read_in_parts_by_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(block_source, "PIECE_BYTES", 1024)
    tensors = {f"t{index}": torch.randn(33, 20) for index in range(5)}
    save_file(tensors, tmp_path / "a.safetensors")
    layout = lay_out(tensors.items())
    block = StoredBlock(
        BlockSource(layout, stored_tensors([tmp_path / "a.safetensors"])), pinning=None
    )
    assert len(block.read_parts()) > 5
    files = reader(Counted(), threads=threads)
    for _ in range(3):
        reading = files.start(block)
        assert reading is not None
        out = reading.wait()
        for span in layout.spans:
            assert torch.equal(span.view_of(out), tensors[span.name])
        reading.release()


def test_blocks_in_ram_are_copied_into_the_buffers_by_several_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_block, "PIECE_BYTES", 1000)
    content = torch.randint(0, 255, (5 * 1024,), dtype=torch.uint8)
    layout = BlockLayout(spans=(), size_bytes=content.numel())
    block = RamBlock(layout, content, HostTier.PAGEABLE)
    files = reader(Counted(), threads=3)
    for _ in range(3):
        reading = files.start(block)
        assert reading is not None
        assert torch.equal(reading.wait(), content)
        assert reading.wait().data_ptr() != content.data_ptr()
        reading.release()


def test_stored_blocks_are_read_from_where_they_are(tmp_path: Path) -> None:
    tensors = {"one": torch.randn(33, 20)}
    file = tmp_path / "a.safetensors"
    save_file(tensors, file)
    layout = lay_out(tensors.items())
    block = StoredBlock(BlockSource(layout, stored_tensors([file])), pinning=None)
    block.keep()
    file.unlink()
    files = reader(Counted())
    reading = files.start(block)
    assert reading is not None
    assert torch.equal(layout.spans[0].view_of(reading.wait()), tensors["one"])
    reading.release()
    block.let_go()
    again = files.start(block)
    assert again is not None
    with pytest.raises(ModelError):
        again.wait()
    again.release()


def test_locked_buffers_are_reserved_as_far_as_they_can_be_had() -> None:
    class Locking(Counted):
        """Locks some."""

        def __init__(self, most: int) -> None:
            super().__init__()
            self.most = most
            self.locked: list[int] = []

        def allocate(self, size_bytes: int) -> torch.Tensor:
            buffer = super().allocate(size_bytes)
            if len(self.locked) < self.most:
                self.locked.append(buffer.data_ptr())
            return buffer

        def free(self, buffer: torch.Tensor) -> None:
            super().free(buffer)
            if buffer.data_ptr() in self.locked:
                self.locked.remove(buffer.data_ptr())

        def is_locked(self, buffer: torch.Tensor) -> bool:
            return buffer.data_ptr() in self.locked

    for most, expected in ((3, 3), (2, 2), (1, 1), (0, 0)):
        locking = Locking(most)
        files = FileReader(
            locking.allocate, free=locking.free, locked=locking.is_locked, linger_s=0.01
        )
        files.reserve(1024, 3)
        assert files.locked_count(1024) == expected
        assert files.is_locked(1024) == (expected >= 2)
        assert not files.is_locked(1025)
        assert files.all_bytes == expected * 1024
        made = len(locking.sizes)
        files.reserve(512, 3)
        assert files.all_bytes == expected * 1024
        # Those that are there are kept; only what could not be locked is tried again.
        assert len(locking.sizes) - made == (expected < 3)
        files.reserve(2048, 3)
        assert files.all_bytes == expected * 2048
        files.let_go()
        assert files.all_bytes == 0
        assert locking.locked == []


def test_block_without_weights_is_there_at_once() -> None:
    files = reader(Counted())
    block = StoredBlock(BlockSource(lay_out([]), {}), pinning=None)
    reading = files.start(block)
    assert reading is not None
    assert reading.is_done()
    assert reading.wait().numel() == 0


class UnreadableBlock(GatedBlock):
    """Fails anew each time."""

    def read_into(self, out: torch.Tensor) -> None:
        raise OSError("gone")


def test_an_error_that_was_told_keeps_nothing_that_it_came_through() -> None:
    """Or weights would stay on the device until a collector looks."""
    reading = reader(Counted()).start(UnreadableBlock(1))
    assert reading is not None
    alive: list[weakref.ref[torch.Tensor]] = []

    def compute() -> None:
        weights = torch.empty(1)
        alive.append(weakref.ref(weights))
        reading.wait()

    with contextlib.suppress(OSError):
        compute()
    assert alive[0]() is None
    with pytest.raises(RuntimeError, match="could not be read"):
        reading.wait()
